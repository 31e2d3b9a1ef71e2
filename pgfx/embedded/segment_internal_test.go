//go:build linux

package embedded

import "golang.org/x/sys/unix"

// SegmentExists reports whether there is a System V shared memory segment with this number.
func SegmentExists(id int) bool {
	var info unix.SysvShmDesc
	_, err := unix.SysvShmCtl(id, unix.IPC_STAT, &info)
	return err == nil
}
