package backendai

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Labels of images that the manager or the agent reads (spec/config-cli-ops §5.6).
const (
	LabelKernelspec     = "ai.backend.kernelspec"
	LabelMinPrefix      = "ai.backend.resource.min."
	LabelPreferredShmem = "ai.backend.resource.preferred.shmem"
	LabelServicePorts   = "ai.backend.service-ports"
	LabelAccelerators   = "ai.backend.accelerators"
	LabelFeatures       = "ai.backend.features"
	LabelCoreCountEnvs  = "ai.backend.envs.corecount"
	LabelRuntimeType    = "ai.backend.runtime-type"
	LabelRuntimePath    = "ai.backend.runtime-path"
	LabelBaseDistro     = "ai.backend.base-distro"
)

// FeatureOperation marks images that serve the system and are not offered to users.
const FeatureOperation = "operation"

// ImageLabels are the labels of an image, read by meaning.
type ImageLabels map[string]string

// IsKernel tells whether this is a Backend.AI image: the kernelspec label is present and 1.
func (l ImageLabels) IsKernel() bool {
	n, err := strconv.Atoi(strings.TrimSpace(l[LabelKernelspec]))
	return err == nil && n == 1
}

// MinResources are the minimum amounts as the labels write them ("256m", "1").
func (l ImageLabels) MinResources() ImageResources {
	r := ImageResources{}
	for key, value := range l {
		if name, ok := strings.CutPrefix(key, LabelMinPrefix); ok && name != "" {
			r[SlotName(name)] = SlotRange{Min: value}
		}
	}
	return r
}

// PreferredShmem is the default size of shared memory: 64m unless given. Errors: InvalidArgument.
func (l ImageLabels) PreferredShmem() (BinarySize, error) {
	text, ok := l[LabelPreferredShmem]
	if !ok {
		return 64 << 20, nil
	}
	return ParseBytes(text)
}

// Accelerators are the kinds of accelerators the image supports; nil for none.
func (l ImageLabels) Accelerators() []string { return splitList(l[LabelAccelerators], ",") }

// Features of the image: batch, query, uid-match, user-input, tty, operation.
func (l ImageLabels) Features() []string { return strings.Fields(l[LabelFeatures]) }

// HasFeature tells whether the feature is among them.
func (l ImageLabels) HasFeature(name string) bool { return slices.Contains(l.Features(), name) }

// CoreCountEnvs are variables to be set to the number of allocated cores.
func (l ImageLabels) CoreCountEnvs() []string { return splitList(l[LabelCoreCountEnvs], ",") }

// RuntimeType is the agent's runner module; "python" unless given.
func (l ImageLabels) RuntimeType() string {
	if t := l[LabelRuntimeType]; t != "" {
		return t
	}
	return "python"
}

// RuntimePath is the interpreter inside the image, "" unless given.
func (l ImageLabels) RuntimePath() string { return l[LabelRuntimePath] }

// BaseDistro is the distribution the image builds on; "ubuntu16.04" unless given.
func (l ImageLabels) BaseDistro() string {
	if d := l[LabelBaseDistro]; d != "" {
		return d
	}
	return "ubuntu16.04"
}

// ServicePorts parses the service-ports label; none when absent or empty. Errors: InvalidArgument.
func (l ImageLabels) ServicePorts() ([]ServicePort, error) {
	return ParseServicePorts(l[LabelServicePorts])
}

func splitList(text, separator string) (list []string) {
	for part := range strings.SplitSeq(text, separator) {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// SlotRange is one entry of images.resources: texts as the label or the admin wrote them. A missing minimum is 0, a missing maximum
// unlimited. (spec/config-cli-ops §5.4, §5.9)
type SlotRange struct {
	Min string  `json:"min"`
	Max *string `json:"max,omitempty"`
}

// ImageResources is images.resources.
type ImageResources map[SlotName]SlotRange

// Ranges are the minimum and maximum of every known slot; slots that are not known are left out. Errors: InvalidArgument for a text that
// is no amount. (spec/config-cli-ops §5.9)
func (r ImageResources) Ranges(known *KnownSlots) (low, high ResourceSlots, err error) {
	for _, name := range known.Names() {
		t, _ := known.Type(name)
		lo, hi := Decimal{}, Infinity()
		entry := r[name]
		if entry.Min != "" {
			if lo, err = ParseSlotAmount(entry.Min, t); err != nil {
				return ResourceSlots{}, ResourceSlots{}, err
			}
		}
		if entry.Max != nil && *entry.Max != "" {
			if hi, err = ParseSlotAmount(*entry.Max, t); err != nil {
				return ResourceSlots{}, ResourceSlots{}, err
			}
		}
		low.items = append(low.items, slot{name, lo})
		high.items = append(high.items, slot{name, hi})
	}
	return low, high, nil
}

// Names lists the slots in sorted order.
func (r ImageResources) Names() []SlotName { return slices.Sorted(maps.Keys(r)) }

// ServiceProtocol is what speaks at a service port.
type ServiceProtocol string

const (
	ServiceTCP     ServiceProtocol = "tcp"
	ServiceHTTP    ServiceProtocol = "http"
	ServicePreopen ServiceProtocol = "preopen" // opened for the user's own server
)

// ServicePort is one item of the service-ports label.
type ServicePort struct {
	Name     string          `json:"name"`
	Protocol ServiceProtocol `json:"protocol"`
	Ports    []int           `json:"container_ports"`
}

// reservedPorts belong to the kernel runner (2000–2003), sshd and ttyd.
var reservedPorts = []int{2000, 2001, 2002, 2003, 2200, 7681}

var servicePortShape = regexp.MustCompile(`^([\w-]+):(\w+):(\[\d+(?:,\d+)*\]|\d+)(?:,|$)`)

// ParseServicePorts reads "name:proto:port" and "name:proto:[p1,p2]" items joined by commas. "pty" items are skipped. Ports must be
// distinct, above 1024, below 65535 and not reserved. Errors: InvalidArgument. (spec/config-cli-ops §5.6)
func ParseServicePorts(text string) (list []ServicePort, err error) {
	used := map[int]bool{}
	for text != "" {
		m := servicePortShape.FindStringSubmatch(text)
		if m == nil {
			return nil, Errorf(InvalidArgument, "Invalid format: %s", Repr(clip(text)))
		}
		text = text[len(m[0]):]
		p := ServicePort{Name: m[1], Protocol: ServiceProtocol(m[2])}
		switch p.Protocol {
		case ServiceTCP, ServiceHTTP, ServicePreopen:
		case "pty":
			continue
		default:
			return nil, Errorf(InvalidArgument, "Unsupported service port protocol: %s", clip(m[2]))
		}
		for _, digits := range strings.Split(strings.Trim(m[3], "[]"), ",") {
			port, err := strconv.Atoi(digits)
			if err != nil {
				port = 1 << 16 // too long for an int: out of range
			}
			if used[port] {
				return nil, Errorf(InvalidArgument, "The port %s is already used by another service port.", clip(digits))
			}
			if err := CheckServicePort(port); err != nil {
				return nil, err
			}
			used[port] = true
			p.Ports = append(p.Ports, port)
		}
		list = append(list, p)
	}
	return list, nil
}

// CheckServicePort tells whether the label may declare this container port. Errors: InvalidArgument.
func CheckServicePort(port int) error {
	switch {
	case port <= 1024:
		return Errorf(InvalidArgument, "The service port number must be larger than 1024, not %d.", port)
	case port >= 65535:
		return Errorf(InvalidArgument, "The service port number must be smaller than 65535.")
	case slices.Contains(reservedPorts, port):
		return Errorf(InvalidArgument, "The port %d is reserved for internal use.", port)
	}
	return nil
}
