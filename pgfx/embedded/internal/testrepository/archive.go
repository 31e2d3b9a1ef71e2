// Package testrepository makes repositories of server binaries for tests, in the layouts of package download.
package testrepository

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Entry is an entry of an archive.
type Entry struct {
	Name string
	// Body is the content of a file.
	Body string
	// Type is one of the types of package tar. The default is an executable file.
	Type byte
	// Link is the target of a link.
	Link string
}

// Scripts returns server binaries that only print a version.
func Scripts(version string) []Entry {
	return []Entry{
		{Name: "bin/initdb", Body: "#!/bin/sh\n"},
		{Name: "bin/postgres", Body: "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"},
	}
}

// Installed returns the server binaries of an installation, and the directories beside them that the moved binaries search: lib and
// share. Debian has no share there, but its binaries find it by its absolute path. Bitcode and the JIT compiler are left out.
func Installed(binDir string) ([]Entry, error) {
	var entries []Entry
	for _, name := range []string{"initdb", "postgres"} {
		body, err := os.ReadFile(filepath.Clean(filepath.Join(binDir, name)))
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Name: "bin/" + name, Body: string(body)})
	}
	home := filepath.Dir(binDir)
	for _, dir := range []string{"share", "lib"} {
		more, err := tree(home, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		entries = append(entries, more...)
	}
	return entries, nil
}

// tree returns the files and links of the directory dir below home.
func tree(home, dir string) ([]Entry, error) {
	var entries []Entry
	files := os.DirFS(home)
	err := fs.WalkDir(files, dir, func(name string, found fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case found.IsDir() && (found.Name() == "bitcode" || found.Name() == "pgxs"):
			return fs.SkipDir
		case found.IsDir(), strings.HasPrefix(found.Name(), "llvmjit"):
			return nil
		case found.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(filepath.Join(home, name))
			entries = append(entries, Entry{Name: name, Type: tar.TypeSymlink, Link: target})
			return err
		}
		body, err := fs.ReadFile(files, name)
		entries = append(entries, Entry{Name: name, Body: string(body)})
		return err
	})
	return entries, err
}

// TarGz packs entries below the directory top, without compressing them, which would take long.
func TarGz(top string, entries []Entry) ([]byte, error) {
	var out bytes.Buffer
	packer, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	content, err := packTar(top, entries)
	if err != nil {
		return nil, err
	}
	_, err = packer.Write(content)
	if err = errors.Join(err, packer.Close()); err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	return out.Bytes(), nil
}

// Jar packs entries into a .txz in a zip file.
func Jar(entries []Entry) ([]byte, error) {
	content, err := packTar("", entries)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	jar := zip.NewWriter(&out)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"META-INF/MANIFEST.MF", []byte("Manifest-Version: 1.0\n")}, {"postgres-test.txz", StoreXZ(content)}} {
		entry, err := jar.CreateHeader(&zip.FileHeader{Name: file.name, Method: zip.Store})
		if err != nil {
			return nil, fmt.Errorf("zip: %w", err)
		}
		if _, err := entry.Write(file.content); err != nil {
			return nil, err
		}
	}
	if err := jar.Close(); err != nil {
		return nil, fmt.Errorf("zip: %w", err)
	}
	return out.Bytes(), nil
}

// packTar returns a tar file with entries below the directory top.
func packTar(top string, entries []Entry) ([]byte, error) {
	var out bytes.Buffer
	packer := tar.NewWriter(&out)
	if top != "" {
		entries = slices.Insert(slices.Clone(entries), 0, Entry{Type: tar.TypeDir})
	}
	for _, entry := range entries {
		header := &tar.Header{Name: entry.Name, Typeflag: entry.Type, Linkname: entry.Link, Mode: 0o755, Size: int64(len(entry.Body))}
		if top != "" {
			header.Name = top + "/" + entry.Name
		}
		if top != "" && entry.Type == tar.TypeLink {
			header.Linkname = path.Join(top, entry.Link)
		}
		err := packer.WriteHeader(header)
		if err == nil {
			_, err = packer.Write([]byte(entry.Body))
		}
		if err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
	}
	if err := packer.Close(); err != nil {
		return nil, fmt.Errorf("tar: %w", err)
	}
	return out.Bytes(), nil
}
