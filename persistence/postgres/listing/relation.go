package listing

import (
	"fmt"
	"slices"
	"strings"
	"time"

	backendai "backend.ai/manager"
)

// Relation is something that can be listed.
type Relation struct {
	from    string            // with the alias of the main table
	key     string            // its primary key
	joins   map[string]string // by the alias they add; all are of rows that are always there, or outer
	fields  map[string]string // SQL by name
	filters map[string]operand
	orders  map[string]string // SQL by name; descending is appended
	order   string            // when none is given; "" = none
}

// operand is what a filter name stands for.
type operand struct {
	sql  string
	kind valueType
	enum map[string]string // stored values by name
}

type valueType int

const (
	textValue valueType = iota
	numberValue
	boolValue
	timeValue
	enumValue
	uuidValue
)

// Condition is a comparison of a field of the relation, whatever the filter says.
type Condition struct {
	field  string
	values []any
	any    bool // values is a set; else one value
}

// Is asks for rows whose field has a value.
func Is(field string, value any) Condition { return Condition{field: field, values: []any{value}} }

// In asks for rows whose field has one of some values.
func In[T any](field string, values []T) Condition {
	c := Condition{field: field, any: true, values: make([]any, len(values))}
	for i, v := range values {
		c.values[i] = v
	}
	return c
}

// Query says which rows, and how many.
type Query struct {
	Where  []Condition
	Filter *string // nil = none; an empty text is an error
	Order  *string // nil = that of the relation; an empty text is none
	// Limit and Offset; a nil limit means all rows.
	Limit, Offset *int
	// ParseTime reads dates of filters. Nil refuses them.
	ParseTime func(string) (time.Time, bool)
}

// statement is a query in the making.
type statement struct {
	relation *Relation
	query    Query
	where    []string
	args     []any
	scoped   int // how many of args belong to conditions
}

func (s *statement) param(v any) string {
	s.args = append(s.args, v)
	return fmt.Sprintf("$%d", len(s.args))
}

func (s *statement) field(name string) string {
	sql, ok := s.relation.fields[name]
	if !ok {
		panic("listing: no field " + name) // a mistake of the program: names from outside never get here
	}
	return sql
}

// conditions turns scope and filter into SQL. Errors: InvalidArgument for filters.
func (s *statement) conditions() error {
	for _, c := range s.query.Where {
		sql := s.field(c.field)
		if !c.any {
			s.where = append(s.where, sql+" = "+s.param(c.values[0]))
			continue
		}
		s.where = append(s.where, sql+s.in(c.values))
	}
	if s.query.Filter == nil {
		return nil
	}
	n, err := parseFilter(*s.query.Filter)
	if err != nil {
		return backendai.Errorf(backendai.InvalidArgument, "%s%v", filterTrouble, err)
	}
	sql, err := s.filter(n)
	if err != nil {
		return backendai.Errorf(backendai.InvalidArgument, "%s%v", filterTrouble, err)
	}
	s.where = append(s.where, sql)
	return nil
}

func (s *statement) in(values []any) string {
	if len(values) == 0 {
		return " IS NULL AND false"
	}
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = s.param(v)
	}
	return " IN (" + strings.Join(list, ", ") + ")"
}

func (s *statement) filter(n node) (string, error) {
	switch n := n.(type) {
	case not:
		of, err := s.filter(n.of)
		return "(NOT " + of + ")", err
	case junction:
		left, err := s.filter(n.left)
		if err != nil {
			return "", err
		}
		right, err := s.filter(n.right)
		op := " AND "
		if n.or {
			op = " OR "
		}
		return "(" + left + op + right + ")", err
	case comparison:
		return s.compare(n)
	}
	panic("listing: unknown node")
}

func (s *statement) compare(c comparison) (string, error) {
	o, ok := s.relation.filters[c.name]
	if !ok {
		//lint:ignore ST1005 clients know the text
		return "", fmt.Errorf("Error trying to process rule \"binary_expr\":\n\n('Unknown/unsupported field name', %s)", backendai.Repr(c.name))
	}
	list, isList := c.value.([]any)
	if isList != (c.op == "in") {
		return "", fmt.Errorf("%s can't be compared by %s with %s", c.name, c.op, clip(backendai.Repr(c.value)))
	}
	if isList {
		values := make([]any, 0, len(list))
		for _, v := range list {
			converted, err := s.convert(c.name, o, v)
			if err != nil {
				return "", err
			}
			values = append(values, converted)
		}
		if o.kind == numberValue {
			return "(" + o.sql + "::float8" + s.in(values) + ")", nil
		}
		return "(" + o.sql + s.in(values) + ")", nil
	}
	if c.value == nil {
		switch c.op {
		case "==", "is":
			return "(" + o.sql + " IS NULL)", nil
		case "!=", "isnot":
			return "(" + o.sql + " IS NOT NULL)", nil
		}
		return "", fmt.Errorf("%s can't be compared by %s with null", c.name, c.op)
	}
	v, err := s.convert(c.name, o, c.value)
	if err != nil {
		return "", err
	}
	switch c.op {
	case "contains", "like", "ilike":
		if o.kind != textValue {
			return "", fmt.Errorf("%s is no text that %s could look into", c.name, c.op)
		}
		if c.op == "contains" {
			v = "%" + v.(string) + "%" // % and _ inside keep their meaning, as ever
		}
	}
	if t, isText := v.(string); isText && (c.op == "contains" || c.op == "like" || c.op == "ilike") {
		if trailing := len(t) - len(strings.TrimRight(t, `\`)); trailing%2 == 1 {
			return "", fmt.Errorf("the pattern %s ends in an escape", clip(backendai.Repr(t)))
		}
	}
	sql := o.sql
	if o.kind == numberValue {
		sql += "::float8" // so that an integer column can be compared with 1.5
	}
	return "(" + sql + " " + operators[c.op] + " " + s.param(v) + ")", nil
}

// convert gives a value the type of its column. Errors say which is wrong.
func (s *statement) convert(name string, o operand, v any) (any, error) {
	text, isText := v.(string)
	if isText && strings.ContainsRune(text, 0) {
		return nil, fmt.Errorf("%s: a text must not have a NUL", name)
	}
	switch o.kind {
	case textValue:
		if isText {
			return text, nil
		}
	case enumValue:
		if stored, ok := o.enum[text]; isText && ok {
			return stored, nil
		}
	case timeValue:
		if isText && s.query.ParseTime != nil {
			if t, ok := s.query.ParseTime(text); ok {
				return t, nil
			}
		}
	case uuidValue:
		if isText {
			if id, err := backendai.ParseSessionID(text); err == nil {
				return id.String(), nil
			}
		}
	case boolValue:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case numberValue:
		switch n := v.(type) {
		case int64:
			return float64(n), nil
		case float64:
			return n, nil
		}
	}
	return nil, fmt.Errorf("%s can't be compared with %s", name, clip(backendai.Repr(v)))
}

// orderBy is the clause with its keyword, or "". Errors: InvalidArgument.
func (s *statement) orderBy() (string, error) {
	if s.query.Order == nil {
		if s.relation.order == "" {
			return "", nil
		}
		return " ORDER BY " + s.relation.order, nil
	}
	list, err := parseOrder(*s.query.Order)
	if err != nil {
		return "", backendai.Errorf(backendai.InvalidArgument, "%s%v", orderTrouble, err)
	}
	var parts []string
	for _, o := range list {
		sql, ok := s.relation.orders[o.name]
		if !ok {
			return "", backendai.Errorf(backendai.InvalidArgument, "%sError trying to process rule \"col\":\n\n('Unknown/unsupported field name', %s)", orderTrouble, backendai.Repr(o.name))
		}
		if o.descending {
			sql += " DESC"
		}
		parts = append(parts, sql)
	}
	if parts == nil {
		return "", nil
	}
	return " ORDER BY " + strings.Join(parts, ", "), nil
}

// source is FROM and WHERE, with the joins that these and uses need.
func (s *statement) source(uses ...string) string {
	where := strings.Join(s.where, " AND ")
	sql := " FROM " + s.relation.from + s.relation.join(append(uses, where)...)
	if where != "" {
		sql += " WHERE " + where
	}
	return sql
}

// join gives the joins that some SQL needs.
func (r *Relation) join(uses ...string) (sql string) {
	for _, alias := range joinOrder {
		join, ok := r.joins[alias]
		if ok && slices.ContainsFunc(uses, func(u string) bool { return strings.Contains(u, alias+".") }) {
			sql += " " + join
		}
	}
	return sql
}

// joinOrder are the aliases of joined tables; none is the end of another alias.
var joinOrder = []string{"usr", "grp", "dep", "mbr", "sgd", "sgg", "sgk", "als"}
