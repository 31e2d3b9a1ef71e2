// Package typo finds the name that a misspelled one stands for.
package typo

const (
	maxTypos       = 2
	lettersForTypo = 4 // one typo in as many letters
)

// Nearest returns the name that a misspelled one most probably stands for, "" if none is near. A letter that is missing, added, replaced
// or swapped with the next one is a typo. Up to two typos are near, and one for each four letters of the name. Of names that are equally
// near, it returns the first. The names are ASCII texts.
func Nearest(misspelled string, names []string) string {
	nearest, least := "", maxTypos+1
	for _, name := range names {
		if d := distance(misspelled, name); d < least && d <= len(name)/lettersForTypo {
			nearest, least = name, d
		}
	}
	return nearest
}

// distance returns the number of typos (optimal string alignment distance).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j-1]+cost, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
