// Package listing reads rows for people's lists: pages of sessions, agents, accounts and what else the API lists, with only the columns
// that are asked for.
//
//	names of fields ─────────────┐
//	conditions (scope, role) ────┤
//	filter: `name like "a%"` ────┼─▶ one SELECT (the count inside it) ─▶ []*T
//	order:  `-created_at` ───────┘
//
// # Words
//
//   - relation: what is listed: its tables, and what its fields, filter names and order names mean in SQL (Sessions, Agents, …)
//   - field: a name as the API has it, such as "group_name"; a T has a Go field for each it may be asked for, found without regard to case
//     and underscores
//   - filter, order: texts in the two little languages of spec/graphql §5
//   - condition: what a row must fulfil whatever the filter says
//
// # Why so
//
// SQL is put together only of constants of this package; everything that comes from outside is a parameter, or was looked up in a table of
// names. Fields that nobody asked for are neither read nor decoded: the wide columns of kernels are most of the cost of a list.
package listing
