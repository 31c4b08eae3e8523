package simulator

import (
	"slices"
	"testing"
	"time"
)

// epoch is when the pure tests begin.
func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// filled is a queue of n messages with ids from first.
func filled(t *testing.T, first, n int) *queue {
	t.Helper()
	q := &queue{tail: first}
	for range n {
		if !q.push(queued{id: q.next(), kind: "message", expires: epoch().Add(retention("message"))}) {
			t.Fatal("the queue took no more")
		}
	}
	return q
}

func ids(updates []queued) []int {
	list := []int{}
	for _, u := range updates {
		list = append(list, u.id)
	}
	return list
}

func TestOffsetDecidesWhatIsConfirmedAndWhatIsGiven(t *testing.T) {
	t.Parallel()
	const first = 500_000
	for name, c := range map[string]struct {
		offset, limit    int
		given, confirmed []int
	}{
		"zero confirms nothing":                {0, 100, []int{500_000, 500_001, 500_002, 500_003}, []int{}},
		"the head confirms nothing":            {first, 100, []int{500_000, 500_001, 500_002, 500_003}, []int{}},
		"one higher confirms one":              {first + 1, 100, []int{500_001, 500_002, 500_003}, []int{500_000}},
		"the tail confirms all":                {first + 4, 100, []int{}, []int{500_000, 500_001, 500_002, 500_003}},
		"the limit holds back, not confirms":   {first + 1, 2, []int{500_001, 500_002}, []int{500_000}},
		"-1 keeps the last":                    {-1, 100, []int{500_003}, []int{500_000, 500_001, 500_002}},
		"-3 keeps three":                       {-3, 100, []int{500_001, 500_002, 500_003}, []int{500_000}},
		"-100 keeps all there is":              {-100, 100, []int{500_000, 500_001, 500_002, 500_003}, []int{}},
		"a little below the head is no matter": {first - 5, 100, []int{500_000, 500_001, 500_002, 500_003}, []int{}},
		"100,000 below the head is the head's": {first - beforeHead, 100, []int{500_000, 500_001, 500_002, 500_003}, []int{}},
		"further below it confirms nothing":    {first - beforeHead - 1, 100, []int{500_000, 500_001, 500_002, 500_003}, []int{}},
		"1, as some clients begin, is none":    {1, 100, []int{500_000, 500_001, 500_002, 500_003}, []int{}},
		"ten past the end":                     {first + 4 + pastEnd, 100, []int{}, []int{500_000, 500_001, 500_002, 500_003}},
		"further past it confirms nothing":     {first + 4 + pastEnd + 1, 100, []int{500_000, 500_001, 500_002, 500_003}, []int{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := filled(t, first, 4)
			given, confirmed := q.get(c.offset, c.limit)
			if !slices.Equal(ids(given), c.given) || !slices.Equal(ids(confirmed), c.confirmed) {
				t.Errorf("gave %v, confirmed %v; want %v, %v", ids(given), ids(confirmed), c.given, c.confirmed)
			}
			again, _ := q.get(0, 100)
			if want := 4 - len(c.confirmed); len(again) != want {
				t.Errorf("%d wait afterwards, want %d: only what is confirmed goes", len(again), want)
			}
		})
	}
}

func TestWildOffsetDiffersFromOneJustPastTheEnd(t *testing.T) {
	t.Parallel()
	q := filled(t, 1000, 0)
	if got := q.start(1000 + pastEnd); got != 1000+pastEnd {
		t.Errorf("ten past the end starts at %d", got)
	}
	if got := q.start(1000 + pastEnd + 1); got != 1000 {
		t.Errorf("eleven past the end starts at %d, want the end", got)
	}
}

func TestFullQueueDropsWhatIsNewAndKeepsItsID(t *testing.T) {
	t.Parallel()
	q := filled(t, 1, queueCapacity)
	if q.push(queued{id: q.next()}) {
		t.Fatal("the queue took more than it holds")
	}
	if q.head() != 1 || q.next() != queueCapacity+1 {
		t.Errorf("head %d, next %d: a dropped update must change neither", q.head(), q.next())
	}
	q.get(2, 1)
	if !q.push(queued{id: q.next()}) {
		t.Error("there is room for one again, and it was dropped")
	}
}

func TestUpdatesAreKeptAsLongAsTheirKindIs(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]time.Duration{
		"message": 24 * time.Hour, "edited_message": 24 * time.Hour, "my_chat_member": 24 * time.Hour,
		"callback_query": 150 * time.Second, "shipping_query": 150 * time.Second, "pre_checkout_query": 150 * time.Second,
		"inline_query": 30 * time.Second, "chosen_inline_result": 600 * time.Second,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			q := &queue{tail: 7}
			q.push(queued{id: q.next(), kind: kind, expires: epoch().Add(retention(kind))})
			if gone := q.expire(epoch().Add(want)); len(gone) != 0 {
				t.Error("dropped too early")
			}
			if gone := q.expire(epoch().Add(want + time.Nanosecond)); !slices.Equal(ids(gone), []int{7}) {
				t.Errorf("dropped %v, want the update", ids(gone))
			}
			if q.next() != 8 {
				t.Errorf("the next id is %d: ids of dropped updates do not come again", q.next())
			}
		})
	}
}

func TestOnlyWhatHasExpiredIsDroppedInWhateverOrder(t *testing.T) {
	t.Parallel()
	q := &queue{tail: 1}
	for _, seconds := range []int{60, 10, 30, 10, 90} {
		q.push(queued{id: q.next(), expires: epoch().Add(time.Duration(seconds) * time.Second)})
	}
	for _, step := range []struct {
		after int
		gone  []int
	}{{5, []int{}}, {11, []int{2, 4}}, {12, []int{}}, {31, []int{3}}, {61, []int{1}}, {89, []int{}}, {91, []int{5}}, {999, []int{}}} {
		if gone := q.expire(epoch().Add(time.Duration(step.after) * time.Second)); !slices.Equal(ids(gone), step.gone) {
			t.Errorf("after %d s dropped %v, want %v", step.after, ids(gone), step.gone)
		}
	}
	q.push(queued{id: q.next(), expires: epoch().Add(2000 * time.Second)})
	if gone := q.expire(epoch().Add(2001 * time.Second)); len(gone) != 1 {
		t.Error("what came after all had expired did not expire")
	}
}

func TestIDsStartAgainLowerOnlyOnceNothingWaits(t *testing.T) {
	t.Parallel()
	q := filled(t, 900, 2)
	q.restart = 40
	if got := q.next(); got != 902 {
		t.Errorf("next id %d while updates wait, want 902", got)
	}
	q.get(902, 1)
	if got := q.next(); got != 40 {
		t.Errorf("next id %d once nothing waits, want 40", got)
	}
	q.push(queued{id: q.next()})
	q.get(41, 1)
	if got := q.next(); got != 41 {
		t.Errorf("next id %d, want 41: ids start again once", got)
	}
}

func TestClearedQueueIsEmptyAndGoesOn(t *testing.T) {
	t.Parallel()
	q := filled(t, 5, 3)
	if gone := q.clear(); !slices.Equal(ids(gone), []int{5, 6, 7}) {
		t.Errorf("cleared %v", ids(gone))
	}
	if left, _ := q.get(0, 10); len(left) != 0 || q.next() != 8 {
		t.Errorf("%d left, next id %d; want none, 8", len(left), q.next())
	}
}
