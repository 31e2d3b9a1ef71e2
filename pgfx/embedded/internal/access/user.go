// Package access decides which operating-system user runs the server and checks who can use a directory.
package access

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// EnvUser is the environment variable that names the user who runs the server when this process is root.
const EnvUser = "RDSFX_POSTGRES_USER"

// User is an operating-system user. A nil *User stands for the user of the current process.
type User struct {
	Name string `json:"name"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

// ServerUser returns the user who runs the server. It is nil unless euid is 0, because PostgreSQL refuses to run as root only.
// Root hands the server to the user called name, or, if name is empty, to postgres or nobody.
func ServerUser(euid int, name string) (*User, error) {
	return selectUser(euid, name, "postgres", "nobody")
}

func selectUser(euid int, name string, fallbacks ...string) (*User, error) {
	if euid != 0 {
		return nil, nil //nolint:nilnil // a nil user is a valid result: the current one
	}
	if name != "" {
		found, err := lookupUser(name)
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w; name an existing user other than root", EnvUser, name, err)
		}
		return found, nil
	}
	for _, fallback := range fallbacks {
		if found, err := lookupUser(fallback); err == nil {
			return found, nil
		}
	}
	return nil, fmt.Errorf("PostgreSQL refuses to run as root, and this system has no user named %s: name an ordinary user in %s",
		strings.Join(fallbacks, " or "), EnvUser)
}

func lookupUser(name string) (*User, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(found.Uid)
	if err != nil {
		return nil, fmt.Errorf("user id %q: %w", found.Uid, err)
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil {
		return nil, fmt.Errorf("group id %q: %w", found.Gid, err)
	}
	if uid == 0 {
		return nil, fmt.Errorf("user %s has user id 0, and PostgreSQL refuses to run as root", name)
	}
	return &User{Name: name, UID: uid, GID: gid}, nil
}

// Chown makes user the owner of path without following links. A nil user changes nothing.
func Chown(path string, user *User) error {
	if user == nil {
		return nil
	}
	return os.Lchown(path, user.UID, user.GID)
}
