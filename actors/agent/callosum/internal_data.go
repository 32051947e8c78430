package callosum

import (
	"encoding/json"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// InternalData is what a session carries to its kernels beside the visible configuration (spec §4.5). It is stored as
// JSON in the kernels' rows. Keys that this version does not know are kept in Extra, in their order.
type InternalData struct {
	// Dotfiles come lowest priority first: keypair, group, domain; a later one overwrites.
	Dotfiles []Dotfile
	// SSHKeyPair is the access key's own, installed unless /home/work/.ssh is mounted.
	SSHKeyPair *SSHKeyPair
	// DomainSocketProxies are host sockets, for the image importer.
	DomainSocketProxies []string
	// DockerCredentials are by registry, for the image importer.
	DockerCredentials    map[string]Credentials
	PreventVFolderMounts bool // only the folder ".logs" is mounted then
	BlockServicePorts    bool // start_service is refused then
	// Fence says on whose authority the kernel is created; official agents ignore it.
	Fence Fence
	Extra Map
}

// Dotfile is a file put into the home folder of a kernel.
type Dotfile struct {
	Path string `json:"path"`
	Perm string `json:"perm"` // octal, such as "755"
	Data string `json:"data"`
}

// Credentials open a registry.
type Credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// String hides the password from logs.
func (c Credentials) String() string { return fmt.Sprintf("Credentials{%s}", c.Username) }

// GoString hides the password from logs.
func (c Credentials) GoString() string { return c.String() }

// fields gives the entries to write; all keys are optional.
func (d InternalData) fields() Map {
	m := Map{}
	if d.Dotfiles != nil {
		m = append(m, Entry{"dotfiles", d.Dotfiles})
	}
	if d.SSHKeyPair != nil {
		m = append(m, Entry{"ssh_keypair", *d.SSHKeyPair})
	}
	if d.DomainSocketProxies != nil {
		m = append(m, Entry{"domain_socket_proxies", d.DomainSocketProxies})
	}
	if d.DockerCredentials != nil {
		m = append(m, Entry{"docker_credentials", d.DockerCredentials})
	}
	if d.PreventVFolderMounts {
		m = append(m, Entry{"prevent_vfolder_mounts", true})
	}
	if d.BlockServicePorts {
		m = append(m, Entry{"block_service_ports", true})
	}
	if !d.Fence.IsZero() {
		m = append(m, Entry{"fence", d.Fence})
	}
	return append(m, d.Extra...)
}

func (d *InternalData) target(key string) any {
	switch key {
	case "dotfiles":
		return &d.Dotfiles
	case "ssh_keypair":
		return &d.SSHKeyPair
	case "domain_socket_proxies":
		return &d.DomainSocketProxies
	case "docker_credentials":
		return &d.DockerCredentials
	case "prevent_vfolder_mounts":
		return &d.PreventVFolderMounts
	case "block_service_ports":
		return &d.BlockServicePorts
	case "fence":
		return &d.Fence
	}
	return nil
}

// EncodeMsgpack writes the keys that are set.
func (d InternalData) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.Encode(d.fields()) }

// DecodeMsgpack reads a map.
func (d *InternalData) DecodeMsgpack(dec *msgpack.Decoder) error {
	n, err := dec.DecodeMapLen()
	if err != nil {
		return err
	}
	*d = InternalData{}
	for range n {
		key, err := dec.DecodeString()
		if err != nil {
			return err
		}
		if into := d.target(key); into != nil {
			err = dec.Decode(into)
		} else {
			var v any
			v, err = decodeAny(dec)
			d.Extra = append(d.Extra, Entry{key, v})
		}
		if err != nil {
			return fmt.Errorf("internal_data.%s: %w", key, err)
		}
	}
	return nil
}

// MarshalJSON writes the keys that are set.
func (d InternalData) MarshalJSON() ([]byte, error) { return json.Marshal(d.fields()) }

// UnmarshalJSON reads an object.
func (d *InternalData) UnmarshalJSON(data []byte) error {
	var all Map
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	*d = InternalData{}
	for _, e := range all {
		into := d.target(e.Key)
		if into == nil {
			d.Extra = append(d.Extra, e)
			continue
		}
		raw, err := json.Marshal(e.Value)
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			return fmt.Errorf("internal_data.%s: %w", e.Key, err)
		}
	}
	return nil
}
