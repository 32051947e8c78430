package hello

import "backend.ai/manager/api"

// Hello is the resource. Mount it at "".
type Hello struct{}

// Register adds its route.
func (Hello) Register(r *api.Router) { r.GET("/", hello) }

var answer = struct {
	Version string `json:"version"`
	Manager string `json:"manager"`
}{api.Latest, api.Release}

func hello(r *api.Request) error { return r.JSON(answer) }
