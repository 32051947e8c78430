package listing

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"backend.ai/manager/persistence/postgres/dbtest"
)

type shouted string

func (s *shouted) ScanText(text string) error {
	if text == "no" {
		return errors.New("it says no")
	}
	*s = shouted(text + "!")
	return nil
}

type moment time.Time

func (m *moment) ScanTime(t time.Time) { *m = moment(t) }

type collected struct {
	Plain, Empty *string
	Loud         *shouted
	At           *moment
	Number       *int32
	Sure         string
	List         *[]*string
}

// TestCollect: values stay what they are while more rows are read, by whichever way they come.
func TestCollect(t *testing.T) {
	pool := dbtest.New(t)
	ctx := context.Background()
	read := func(sql string) ([]*collected, int, error) {
		rows, err := pool.Query(ctx, sql)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		list, err := collect[collected](rows, [][]int{{0}, {1}, {2}, {3}, {4}, {5}, {6}}, &total)
		return list, total, err
	}
	list, total, err := read(`SELECT 7::bigint, CASE WHEN i % 3 > 0 THEN 'p' || i END, '', 'é' || i, CASE WHEN i % 5 > 0 THEN '1969-12-31 23:59:59.000001+00'::timestamptz + i * interval '1 day' END,
 i, 's' || i, ARRAY['x', NULL, 'l' || i] FROM generate_series(1, 200) i`)
	if err != nil || total != 7 || len(list) != 200 {
		t.Fatal(len(list), total, err)
	}
	for n, c := range list {
		i := n + 1
		if i%3 == 0 != (c.Plain == nil) || c.Plain != nil && *c.Plain != fmt.Sprint("p", i) || *c.Empty != "" || *c.Loud != shouted(fmt.Sprint("é", i, "!")) {
			t.Fatal(i, c)
		}
		if i%5 == 0 != (c.At == nil) || c.At != nil && !time.Time(*c.At).Equal(time.Date(1969, 12, 31+i, 23, 59, 59, 1000, time.UTC)) {
			t.Fatal(i, time.Time(*c.At))
		}
		if *c.Number != int32(i) || c.Sure != fmt.Sprint("s", i) || len(*c.List) != 3 || *(*c.List)[2] != fmt.Sprint("l", i) {
			t.Fatal(i, c)
		}
	}
	if _, _, err := read("SELECT 7::bigint, NULL, NULL, 'no', NULL, NULL, '', NULL FROM generate_series(1, 3)"); err == nil {
		t.Error("a value that can't be read is no error")
	}
	if list, _, err := read("SELECT 7::bigint, NULL, NULL, NULL, NULL, NULL, '', NULL LIMIT 0"); err != nil || list == nil || len(list) != 0 {
		t.Error(list, err)
	}
}
