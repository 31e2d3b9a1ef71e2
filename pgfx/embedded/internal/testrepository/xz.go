package testrepository

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// StoreXZ returns data in the format of xz (The .xz file format 1.2.0, chapters 2 to 4). It does not compress: that would take longer
// than the tests that use the archives.
func StoreXZ(data []byte) []byte {
	const (
		chunkSize  = 1 << 16
		firstChunk = 1 // not compressed, resets the dictionary
		nextChunk  = 2 // not compressed
	)
	flags := []byte{0, 0} // no checksum of the content
	out := append([]byte("\xfd7zXZ\x00"), flags...)
	out = appendCRC(out, flags)

	blockStart := len(out)
	// The size of this header in units of 4 bytes minus 1, one filter, LZMA2 with a dictionary of 64 KB, and padding.
	header := []byte{2, 0, 0x21, 1, 8, 0, 0, 0}
	out = appendCRC(append(out, header...), header)
	for control, rest := byte(firstChunk), data; len(rest) > 0; control = nextChunk {
		n := min(len(rest), chunkSize)
		out = append(out, control)
		out = binary.BigEndian.AppendUint16(out, uint16(n-1))
		out, rest = append(out, rest[:n]...), rest[n:]
	}
	out = append(out, 0)
	unpadded := len(out) - blockStart
	out = pad(out)

	index := binary.AppendUvarint([]byte{0, 1}, uint64(unpadded)) //nolint:gosec // a length
	index = pad(binary.AppendUvarint(index, uint64(len(data))))
	out = appendCRC(append(out, index...), index)

	size := binary.LittleEndian.AppendUint32(nil, uint32((len(index)+4)/4-1)) //nolint:gosec // a small length
	footer := slices.Concat(size, flags)
	return slices.Concat(appendCRC(out, footer), footer, []byte("YZ"))
}

func appendCRC(out, of []byte) []byte {
	return binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(of))
}

func pad(out []byte) []byte {
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}
