package up

import (
	"github.com/pelletier/go-toml/v2"
)

// managerFile is manager.toml as far as it must be said.
type managerFile struct {
	Etcd struct {
		Namespace string   `toml:"namespace"`
		Addr      []string `toml:"addr"`
		User      string   `toml:"user"`
		Password  string   `toml:"password"`
	} `toml:"etcd"`
	DB struct {
		Addr     string `toml:"addr"`
		Name     string `toml:"name"`
		User     string `toml:"user"`
		Password string `toml:"password"`
	} `toml:"db"`
	Manager struct {
		ID               string  `toml:"id"`
		ServiceAddr      string  `toml:"service-addr"`
		HeartbeatTimeout float64 `toml:"heartbeat-timeout"`
		Secret           string  `toml:"secret"`
	} `toml:"manager"`
}

// writeConfig writes a manager.toml with which the commands of backend.ai mgr reach the cluster, and with which a manager of its own
// could take over.
func (c *Cluster) writeConfig() error {
	var f managerFile
	f.Etcd.Namespace, f.Etcd.User, f.Etcd.Password = c.cfg.Etcd.Namespace, c.cfg.Etcd.User, c.cfg.Etcd.Password.Reveal()
	for _, a := range c.cfg.Etcd.Addrs {
		f.Etcd.Addr = append(f.Etcd.Addr, a.String())
	}
	f.DB.Addr, f.DB.Name, f.DB.User, f.DB.Password = c.cfg.DB.Addr.String(), c.cfg.DB.Name, c.cfg.DB.User, c.cfg.DB.Password.Reveal()
	f.Manager.ID, f.Manager.ServiceAddr, f.Manager.Secret = c.cfg.Service.ID, c.cfg.Service.Addr.String(), c.cfg.Service.Secret.Reveal()
	f.Manager.HeartbeatTimeout = c.cfg.Service.HeartbeatTimeout.Seconds()
	text, err := toml.Marshal(f)
	if err != nil {
		return err
	}
	const head = "# Written by backend.ai up at each start, for backend.ai mgr -f THIS_FILE; changes are lost.\n\n"
	return c.dir.write("manager.toml", head+string(text), true)
}
