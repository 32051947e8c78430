package listing

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// Querier is a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Has tells whether a relation has a field of that name.
func (r *Relation) Has(field string) bool { _, ok := r.fields[field]; return ok }

// Read gives the rows with the named fields set; T is a struct with a Go field for each. Names that the relation does not have are
// left to the caller, who computes those. Errors: InvalidArgument for filters and orders.
func Read[T any](ctx context.Context, db Querier, r *Relation, q Query, fields []string) ([]*T, error) {
	s := &statement{relation: r, query: q}
	sql, indices, err := prepare[T](s, fields, false)
	if err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, sql, s.args...)
	if err != nil {
		return nil, postgres.AsError(err)
	}
	return collect[T](rows, indices)
}

// One is Read of at most one row; nil if there is none.
func One[T any](ctx context.Context, db Querier, r *Relation, q Query, fields []string) (*T, error) {
	one := 1
	q.Limit = &one
	list, err := Read[T](ctx, db, r, q, fields)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// Page is Read with the number of all rows that match, in one statement: the page is found by its keys, and only its rows are read whole.
// The rows are counted apart, for which an index or the first columns do: counting beside the search (count(*) OVER ()) keeps every row that
// matches, whole, and takes twice as long.
func Page[T any](ctx context.Context, db Querier, r *Relation, q Query, fields []string, items, total bool) (list []*T, count int, err error) {
	if !total {
		if items {
			list, err = Read[T](ctx, db, r, q, fields)
		}
		return list, 0, err
	}
	if !items {
		count, err = Count(ctx, db, r, q)
		return nil, count, err
	}
	s := &statement{relation: r, query: q}
	sql, indices, err := prepare[T](s, fields, true)
	if err != nil {
		return nil, 0, err
	}
	rows, err := db.Query(ctx, sql, s.args...)
	if err != nil {
		return nil, 0, postgres.AsError(err)
	}
	list, err = collect[T](rows, indices, &count)
	if err == nil && len(list) == 0 {
		count, err = Count(ctx, db, r, q) // behind the last row, or a page of none
	}
	return list, count, err
}

// Count is the number of all rows that match. Errors: InvalidArgument for filters.
func Count(ctx context.Context, db Querier, r *Relation, q Query) (count int, err error) {
	s := &statement{relation: r, query: q}
	if _, _, err = prepare[struct{}](s, nil, false); err != nil { // also for what is wrong with the order
		return 0, err
	}
	rows, err := db.Query(ctx, "SELECT count(*)"+s.source(), s.args[:s.scoped]...)
	if err != nil {
		return 0, postgres.AsError(err)
	}
	count, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	return count, postgres.AsError(err)
}

// mostNamedLimit is the largest limit that is part of a statement's text.
const mostNamedLimit = 200

func prepare[T any](s *statement, fields []string, counted bool) (sql string, indices [][]int, err error) {
	if s.query.Limit != nil && *s.query.Limit < 0 {
		return "", nil, backendai.Errorf(backendai.InvalidArgument, "LIMIT must not be negative")
	}
	if s.query.Offset != nil && *s.query.Offset < 0 {
		return "", nil, backendai.Errorf(backendai.InvalidArgument, "OFFSET must not be negative")
	}
	if err := s.conditions(); err != nil {
		return "", nil, err
	}
	s.scoped = len(s.args)
	order, err := s.orderBy()
	if err != nil {
		return "", nil, err
	}
	of := layoutOf(reflect.TypeFor[T]())
	var columns []string
	for _, name := range fields {
		column, ok := s.relation.fields[name]
		if !ok {
			continue
		}
		index, ok := of[fold(name)]
		if !ok {
			panic(fmt.Sprintf("listing: %v has no field %s", reflect.TypeFor[T](), name)) // a mistake of the program
		}
		columns, indices = append(columns, column), append(indices, index)
	}
	limit := ""
	switch l := s.query.Limit; {
	case l == nil:
	case *l <= mostNamedLimit: // few sizes are usual, and one that the database knows lets it plan the statement once
		limit += " LIMIT " + strconv.Itoa(*l)
	default:
		limit += " LIMIT " + s.param(*l)
	}
	if s.query.Offset != nil && *s.query.Offset != 0 {
		limit += " OFFSET " + s.param(*s.query.Offset)
	}
	if !counted {
		if columns == nil {
			columns = []string{"1"} // rows count, even when nothing of them is read
		}
		selected := strings.Join(columns, ", ")
		return "SELECT " + selected + s.source(selected, order) + order + limit, indices, nil
	}
	r := s.relation
	selected := strings.Join(append([]string{"(SELECT count(*)" + s.source() + ")"}, columns...), ", ")
	return "SELECT " + selected + " FROM (SELECT " + r.key + " AS key" + s.source(order) + order + limit + ") page JOIN " +
		r.from + " ON " + r.key + " = page.key" + r.join(strings.Join(columns, ", "), order) + order, indices, nil
}

var layouts sync.Map // map[string][]int by reflect.Type

// layoutOf tells where a struct keeps its fields, embedded ones too.
func layoutOf(t reflect.Type) map[string][]int {
	if l, ok := layouts.Load(t); ok {
		return l.(map[string][]int)
	}
	l := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		if f.IsExported() && !f.Anonymous {
			l[fold(f.Name)] = f.Index
		}
	}
	layouts.Store(t, l)
	return l
}

func fold(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }
