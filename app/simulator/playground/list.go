package playground

// item is what the page shows, with the version in which it changed last.
type item[T any] struct {
	version uint64
	value   T
}

// list keeps the last items, in the order in which they came.
type list[T any] struct {
	items []*item[T]
	most  int
}

// add appends an item. It returns what had to go for it; nil if nothing had to.
func (l *list[T]) add(version uint64, value T) (added, gone *item[T]) {
	added = &item[T]{version, value}
	l.items = append(l.items, added)
	if len(l.items) > l.most {
		gone = l.items[0]
		l.items[0] = nil
		l.items = l.items[1:]
	}
	return added, gone
}

// since are the items that changed after a version.
func (l *list[T]) since(version uint64) []T {
	var all []T
	for _, i := range l.items {
		if i.version > version {
			all = append(all, i.value)
		}
	}
	return all
}
