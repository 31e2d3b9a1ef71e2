package redisstore

import (
	"strconv"
	"strings"
	"sync"
)

// slotCount is the number of hash slots of a cluster (Redis cluster specification, "Key distribution model").
const slotCount = 16384

// slotOf returns the hash slot of a key. If the key contains a non-empty {tag}, only the tag counts.
func slotOf(key string) int {
	if _, rest, found := strings.Cut(key, "{"); found {
		if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
			key = tag
		}
	}
	return int(crc16(key) % slotCount)
}

// crc16 is CRC-16/XMODEM.
func crc16(text string) (crc uint16) {
	for i := range len(text) {
		crc ^= uint16(text[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// slotTags returns one short text for each hash slot.
var slotTags = sync.OnceValue(func() []string { //nolint:gochecknoglobals // constant
	tags := make([]string, slotCount)
	for i, missing := 0, slotCount; missing > 0; i++ {
		text := strconv.Itoa(i)
		if slot := slotOf(text); tags[slot] == "" {
			tags[slot] = text
			missing--
		}
	}
	return tags
})
