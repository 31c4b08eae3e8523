package playground

import (
	"cmp"
	"slices"
	"time"

	"habot/app/page"
)

const (
	// waited is how long a message may wait, while no copy answers anything, before that is a gap. A change from one copy to
	// another shows it however short it is.
	waited = time.Second
	// maxCopyName bounds a name, in bytes: clients choose them.
	maxCopyName = 64
)

// copies are who answered of the copies behind a gateway, as Telegram sees it: a span of one is from its first to its last
// answer without one of another copy between, and its Polls are answers. A gap is a time in which a message waited, and no copy
// answered any.
type copies struct {
	lanes   map[string]*page.Lane
	spans   list[page.Span]
	gaps    list[page.Gap]
	changes list[page.Change]
	span    *item[page.Span] // of the copy that answered last
}

func newCopies() copies {
	return copies{
		lanes: map[string]*page.Lane{}, spans: list[page.Span]{most: maxSpans}, gaps: list[page.Gap]{most: maxGaps},
		changes: list[page.Change]{most: maxChanges},
	}
}

// cutName bounds a name.
func cutName(name string) string { return name[:min(len(name), maxCopyName)] }

// called takes note that a copy made a call. It returns its lane; nil for no copy, and for one of too many.
func (c *copies) called(now time.Time, name string) *page.Lane {
	name = cutName(name)
	l := c.lanes[name]
	if l == nil {
		if name == "" || len(c.lanes) >= maxLanes {
			return nil
		}
		l = &page.Lane{Name: name}
		c.lanes[name] = l
	}
	l.Seen = page.At(now)
	return l
}

// copyAnswered takes note of an answer to what was written at sent; zero if that was answered before.
func (m *Model) copyAnswered(now, sent time.Time, name string) {
	c := &m.copies
	l := c.called(now, name)
	if l == nil {
		return
	}
	l.Count++
	name, last := l.Name, c.span
	if last == nil {
		c.span, _ = c.spans.add(m.next(), page.Span{ID: m.id(), Who: name, From: page.At(now), To: page.At(now), Polls: 1})
		return
	}
	from := max(last.value.To, page.At(sent)) // since then a message has waited
	gap := int64(page.At(now) - from)
	changed := last.value.Who != name
	if long := gap >= waited.Microseconds(); !sent.IsZero() && gap > 0 && (changed || long) {
		c.gaps.add(m.next(), page.Gap{ID: m.id(), From: from, To: page.At(now), Before: last.value.Who, After: name})
	} else if !changed {
		last.value.To, last.version = page.At(now), m.next()
		last.value.Polls++
		return
	}
	c.span, _ = c.spans.add(m.next(), page.Span{ID: m.id(), Who: name, From: page.At(now), To: page.At(now), Polls: 1})
	if changed {
		change := page.Change{ID: m.id(), From: last.value.Who, To: name, At: page.At(now)}
		if !sent.IsZero() {
			change.Gap = &gap
		}
		c.changes.add(m.next(), change)
	}
}

// forget takes away lanes that have done nothing for long.
func (c *copies) forget(now time.Time) {
	for name, l := range c.lanes {
		if page.At(now)-l.Seen > page.Micros(forgotten.Microseconds()) {
			delete(c.lanes, name)
		}
	}
}

// since is what has changed after a version; nothing if there are no copies.
func (c *copies) since(version uint64) page.Lanes {
	l := page.Lanes{Spans: c.spans.since(version), Gaps: c.gaps.since(version), Changes: c.changes.since(version)}
	for _, one := range c.lanes {
		l.Lanes = append(l.Lanes, *one)
	}
	slices.SortFunc(l.Lanes, func(a, b page.Lane) int { return cmp.Compare(a.Name, b.Name) })
	return l
}
