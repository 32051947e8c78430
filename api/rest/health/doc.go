// Package health tells load balancers about this node. It is unsigned and says nothing of what runs here.
//
//	GET /health/live   200 while the process can answer at all
//	GET /health/ready  200 while requests should be sent here; 503 with the reason while it starts, drains, or has lost its stores
package health
