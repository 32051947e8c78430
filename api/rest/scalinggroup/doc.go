// Package scalinggroup is /scaling-groups: which scaling groups somebody may use, and how their apps are reached (spec/rest-core §7.9).
//
//	GET /scaling-groups?group=G                     ─▶ those allowed for the own domain, the project G and the own keypair, by name
//	GET /scaling-groups/{name}/wsproxy-version      ─▶ the API version of its coordinator (wsproxy); "v1" when it has none
package scalinggroup
