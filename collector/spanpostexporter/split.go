package spanpostexporter

import "go.opentelemetry.io/collector/pdata/pcommon"

// split returns parts of about `limit` bytes. A trace is in one part, unless it is larger itself.
func split[T any](s signal[T], data T, size, limit int) []T {
	items := s.items(data)
	base := size
	for _, each := range items {
		base -= each.size
	}
	part, count := assign(items, max(limit-max(base, 0), 1))
	if count == 1 {
		return []T{data}
	}
	parts := make([]T, count)
	for number := range parts {
		parts[number] = s.only(data, func(_ pcommon.Resource, at int) bool { return part[at] == number })
	}
	return parts
}

// assign returns the part of each item and the number of parts, each of at most `limit` bytes or one item.
func assign(items []item, limit int) ([]int, int) {
	whole := map[pcommon.TraceID]int{}
	for _, each := range items {
		whole[each.trace] += each.size
	}
	part, placed := make([]int, len(items)), map[pcommon.TraceID]int{}
	current, filled := 0, 0
	for at, each := range items {
		if known, ok := placed[each.trace]; ok {
			part[at] = known
			continue
		}
		size, isWhole := each.size, !each.trace.IsEmpty() && whole[each.trace] <= limit
		if isWhole {
			size = whole[each.trace]
		}
		if filled > 0 && filled+size > limit {
			current, filled = current+1, 0
		}
		if isWhole {
			placed[each.trace] = current
		}
		part[at], filled = current, filled+size
	}
	return part, current + 1
}
