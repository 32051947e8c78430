package listing

import (
	"encoding/binary"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"backend.ai/manager/persistence/postgres"
)

// Texter is a type of text that reads itself from a column's.
type Texter interface{ ScanText(string) error }

// Timer is a type of time that reads itself from a column's.
type Timer interface{ ScanTime(time.Time) }

var (
	texterType = reflect.TypeFor[Texter]()
	timerType  = reflect.TypeFor[Timer]()
)

// way is how a column gets into its field.
type way int

const (
	byScan   way = iota // the driver's
	asText              // a *T, where T is of the kind of string
	asTexter            // a *T, where *T is a Texter
	asTimer             // a *T, where *T is a Timer
)

// wayOf picks the fastest. Texts and times are nearly all that lists show; the driver would make two allocations for each of them.
func wayOf(t reflect.Type, column uint32, format int16) way {
	if t.Kind() != reflect.Pointer {
		return byScan
	}
	switch column {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID:
		switch {
		case t.Implements(texterType):
			return asTexter
		case t.Elem().Kind() == reflect.String:
			return asText
		}
	case pgtype.TimestamptzOID:
		if t.Implements(timerType) && format == pgtype.BinaryFormatCode {
			return asTimer
		}
	}
	return byScan
}

// column is a column of a statement.
type column struct {
	way   way
	index []int
	slab  reflect.Value // of values that the fields of the next rows point to
	used  int
}

// slabSize is how many values are allocated at a time.
const slabSize = 64

// next is a pointer to a new value.
func (c *column) next(t reflect.Type) reflect.Value {
	if !c.slab.IsValid() || c.used == c.slab.Len() {
		c.slab, c.used = reflect.MakeSlice(reflect.SliceOf(t), slabSize, slabSize), 0
	}
	c.used++
	return c.slab.Index(c.used - 1).Addr()
}

// collect reads all rows into new structs. first are where the first columns go, the same at every row.
func collect[T any](rows pgx.Rows, indices [][]int, first ...any) ([]*T, error) {
	defer rows.Close()
	list := []*T{}
	if len(indices)+len(first) == 0 {
		first = []any{new(int)}
	}
	skip := len(first)
	into := append(first, make([]any, len(indices))...)
	var columns []column
	for rows.Next() {
		if columns == nil {
			columns = columnsOf[T](rows, indices, skip)
		}
		v := new(T)
		value := reflect.ValueOf(v).Elem()
		for i := range columns {
			if columns[i].way == byScan {
				into[skip+i] = value.FieldByIndex(columns[i].index).Addr().Interface()
			}
		}
		if err := rows.Scan(into...); err != nil {
			return nil, postgres.AsError(err)
		}
		if err := fill(value, columns, rows.RawValues()[skip:]); err != nil {
			rows.Close()
			return nil, postgres.AsError(err)
		}
		list = append(list, v)
	}
	return list, postgres.AsError(rows.Err())
}

func columnsOf[T any](rows pgx.Rows, indices [][]int, skip int) []column {
	columns := make([]column, len(indices))
	for i, index := range indices {
		described := rows.FieldDescriptions()[skip+i]
		columns[i] = column{way: wayOf(reflect.TypeFor[T]().FieldByIndex(index).Type, described.DataTypeOID, described.Format), index: index}
	}
	return columns
}

// fill sets the fields that the driver was not asked to. The texts of a row are copied at once: its bytes belong to the driver.
func fill(row reflect.Value, columns []column, raw [][]byte) error {
	size := 0
	for i, c := range columns {
		if c.way == asText || c.way == asTexter {
			size += len(raw[i])
		}
	}
	texts := make([]byte, 0, size)
	for i := range columns {
		c := &columns[i]
		if c.way == byScan || raw[i] == nil {
			continue
		}
		field := row.FieldByIndex(c.index)
		to := c.next(field.Type().Elem())
		if c.way == asTimer {
			to.Interface().(Timer).ScanTime(timeOf(raw[i]))
		} else {
			start := len(texts)
			texts = append(texts, raw[i]...)
			text := unsafe.String(unsafe.SliceData(texts[start:]), len(raw[i])) // texts is never written to again, and never grows
			if c.way == asText {
				to.Elem().SetString(text)
			} else if err := to.Interface().(Texter).ScanText(text); err != nil {
				return err
			}
		}
		field.Set(to)
	}
	return nil
}

// timeOf reads the binary form of timestamptz: microseconds since 2000. The infinities become the ends of what it can hold.
func timeOf(raw []byte) time.Time {
	const epoch = 946684800 // 2000, in Unix time
	if len(raw) != 8 {
		return time.Time{}
	}
	n := int64(binary.BigEndian.Uint64(raw))
	n = max(min(n, math.MaxInt64-1), math.MinInt64+1)
	return time.Unix(epoch+n/1e6, n%1e6*1e3).UTC()
}
