package download

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

// maxUnpacked limits the size of an unpacked archive in bytes.
const maxUnpacked = 4 << 30

// extractJar extracts the file *.txz in a jar to dir.
func extractJar(ctx context.Context, archive, dir string) error {
	jar, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("jar: %w", err)
	}
	defer func() { _ = jar.Close() }()
	i := slices.IndexFunc(jar.File, func(entry *zip.File) bool { return strings.HasSuffix(entry.Name, ".txz") })
	if i < 0 {
		return errors.New("the jar contains no file *.txz")
	}
	packed, err := jar.File[i].Open()
	if err != nil {
		return fmt.Errorf("jar: %w", err)
	}
	defer func() { _ = packed.Close() }()
	unpacked, err := xz.NewReader(packed)
	if err != nil {
		return fmt.Errorf("xz: %w", err)
	}
	return extractTar(ctx, unpacked, dir, "")
}

// extractTarGz extracts the only directory in a tar.gz to dir. It has the name of the archive.
func extractTarGz(ctx context.Context, archive, dir string) error {
	file, err := os.Open(filepath.Clean(archive))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	top := strings.TrimSuffix(filepath.Base(dir), ".new")
	return extractTar(ctx, unpacked, dir, top)
}

// extractTar extracts the directory top of a tar file, or everything if top is empty, to dir.
func extractTar(ctx context.Context, packed io.Reader, dir, top string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	x := extractor{root: root, top: top, links: make(map[string]bool), left: maxUnpacked}
	return x.extractAll(ctx, tar.NewReader(packed))
}

// extractor writes the entries of an archive below root. Beyond the checks of os.Root, no entry may lie behind a link, and no link
// may lead outside, because the server follows the links later.
type extractor struct {
	root *os.Root
	top  string
	// links are the links that were extracted.
	links map[string]bool
	// left is the number of bytes that may still be written.
	left int64
}

var (
	errOutside = errors.New("the path leads outside the archive's directory")
	errTooBig  = fmt.Errorf("the unpacked archive has more than %d GB", maxUnpacked>>30)
)

func (x *extractor) extractAll(ctx context.Context, archive *tar.Reader) error {
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tar: %w", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := x.extract(header, archive); err != nil {
			return fmt.Errorf("entry %q: %w", header.Name, err)
		}
	}
}

func (x *extractor) extract(header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := x.inside(header.Name)
	if err != nil {
		return err
	}
	if header.Typeflag == tar.TypeDir {
		return x.makeDirs(name)
	}
	if err := x.makeDirs(path.Dir(name)); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeReg:
		return x.writeFile(name, header.FileInfo().Mode(), content)
	case tar.TypeSymlink:
		if path.IsAbs(header.Linkname) || !filepath.IsLocal(path.Join(path.Dir(name), header.Linkname)) { //nolint:gosec // the check itself
			return fmt.Errorf("link to %q: %w", header.Linkname, errOutside)
		}
		x.links[name] = true
		return x.root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		target, err := x.inside(header.Linkname)
		if err != nil {
			return fmt.Errorf("link to %q: %w", header.Linkname, err)
		}
		return x.root.Link(target, name)
	default:
		return fmt.Errorf("its type %q is neither file, directory nor link", header.Typeflag)
	}
}

// inside returns the path below root of a name in the archive.
func (x *extractor) inside(name string) (string, error) {
	name = path.Clean(name)
	if x.top != "" {
		below, ok := strings.CutPrefix(name+"/", x.top+"/")
		if !ok {
			return "", errOutside
		}
		name = path.Clean(below)
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", errOutside
	}
	return name, nil
}

// makeDirs creates a directory and its parents. The server's user may be another one, so the umask must not count.
func (x *extractor) makeDirs(name string) error {
	if name == "." {
		return nil
	}
	if x.links[name] {
		return fmt.Errorf("its parent %s is a link", name)
	}
	if err := x.makeDirs(path.Dir(name)); err != nil {
		return err
	}
	if err := x.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return x.root.Chmod(name, 0o755)
}

func (x *extractor) writeFile(name string, mode os.FileMode, content io.Reader) (err error) {
	file, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	written, err := io.Copy(file, io.LimitReader(content, x.left+1))
	if err != nil {
		return err
	}
	if x.left -= written; x.left < 0 {
		return errTooBig
	}
	if mode&0o111 != 0 {
		return file.Chmod(0o755)
	}
	return file.Chmod(0o644)
}
