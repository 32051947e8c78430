package api

import backendai "backend.ai/manager"

// Version is an API version; versions compare as pairs (spec/rest-core §1.4).
type Version struct {
	Major int
	Date  string // "20220615"
}

// AtLeast compares.
func (v Version) AtLeast(major int, date string) bool {
	return v.Major > major || v.Major == major && v.Date >= date
}

// Latest is what GET / offers, and Release the manager that clients take this for: front ends gate features on it (spec/rest-core §1.5).
const (
	Latest  = "v6.20220615"
	Release = "22.03.14"
)

// defaultVersion is that of requests without a version header.
var defaultVersion = Version{5, "20191215"}

var versions = map[string]Version{
	"v4.20181215": {4, "20181215"}, "v4.20190115": {4, "20190115"}, "v4.20190315": {4, "20190315"}, "v4.20190615": {4, "20190615"},
	"v5.20191215": {5, "20191215"},
	"v6.20200815": {6, "20200815"}, "v6.20210815": {6, "20210815"}, "v6.20220315": {6, "20220315"}, Latest: {6, "20220615"},
}

var errVersion = backendai.Errorf(backendai.GenericBadRequest, "Unsupported API version.")

// negotiate reads the version header. Errors: GenericBadRequest for any but the versions that exist.
func negotiate(text string) (Version, error) {
	if text == "" {
		return defaultVersion, nil
	}
	v, ok := versions[text]
	if !ok {
		return v, errVersion
	}
	return v, nil
}
