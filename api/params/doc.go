// Package params reads the parameters of a request into typed values, and says of every one that is wrong what is wrong with it.
//
//	body or query ──Read──▶ Values ──Bind──▶ *T, or 400 {"data": {"<parameter>": "<what is wrong>"}}
//
// # Words
//
//   - values: the parameters as they came, a JSON object; from a query string every value is a text
//   - type: a function from a raw value to a typed one, or to a complaint (Str, ToInt, UUID …)
//   - complaint: what is wrong with a value: a text, or a map of complaints for parts of it (nested objects, alternatives, items)
//   - aliases: further names of a parameter; the first that is there wins, and complaints use the name that was sent
//
// # How it reads
//
// A request's parameters are a struct and a function that fills it. The function runs once per request; every field is one line with
// its type, default and names, so it reads like the table in the specification:
//
//	type create struct {
//		Name  string
//		Size  int
//		Tag   *string
//		Mounts []string
//	}
//
//	func (p *create) bind(b *params.Binder) {
//		params.Need(b, &p.Name, params.Str, "name", "clientSessionToken")
//		params.Opt(b, &p.Size, 1, params.ToInt.AtLeast(1).Int, "cluster_size", "clusterSize")
//		params.Maybe(b, &p.Tag, params.Str, "tag")
//		params.Opt(b, &p.Mounts, nil, params.List(params.Str), "mounts")
//	}
//
// Objects inside objects are the same again: params.Object((*config).bind) is a type like any other.
//
// # Rules (spec/rest-core §4)
//
// All complaints are gathered before any is reported. A parameter that no line asked for is refused ("x is not allowed key") unless the
// function calls AllowExtra. A body replaces the query string altogether; a body of no bytes is no body.
package params
