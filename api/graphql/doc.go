// Package graphql answers the queries of /admin/gql and, in the older form, /admin/graphql.
//
//	body ──▶ text, variables ──▶ engine: parse, validate, plan ──▶ resolvers ──▶ listing: one SELECT per list
//	                               │ kept by text                    │ scope        + one per kind of related rows of the page
//	                               ▼                                 ▼              + one command to Redis
//	         {"errors": […], "data": {…}}, errors with places ◀── objects
//
// # Words
//
//   - schema: schema.graphql, the original's text of every type that is served
//   - engine: what executes queries over plain structs, a package of its own below this one
//   - scope: what a role may see: whose rows, of which domain (spec/graphql §3.1)
//   - fields: the names selected below a resolver; they decide what is read at all
//   - page: the objects of one list; what belongs to them (containers, statistics …) is read for all of them at once
//
// # How an object is filled
//
// Objects are structs without methods, one Go field per field of the schema. A list's resolver looks at what is selected, reads the rows
// with just those columns, then the related rows of the whole page, and hands the finished structs to the engine, which writes them as they
// are. So no field costs a query of its own, nor a goroutine, nor a copy. Only fields with arguments have methods.
//
// # Where this is better than the original
//
// Fields that always failed there (single containers, dependencies, a keypair's folders and sessions, the legacy list) work
// (spec/graphql §9). Statistics of ended kernels come from their rows once Redis has forgotten them. Without Redis, lists still answer.
package graphql
