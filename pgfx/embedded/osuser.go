package embedded

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// osUser is the user of the operating system that runs the server.
type osUser struct {
	Name string `json:"name"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

// fallbackUsers are tried when root has to give the server to somebody and the environment names nobody.
var fallbackUsers = []string{"postgres", "nobody"}

// serverUser returns the user to drop to, nil when the server runs as the caller: only root drops.
func serverUser(euid int, named string) (*osUser, error) {
	return pickUser(euid, named, fallbackUsers)
}

func pickUser(euid int, named string, fallback []string) (*osUser, error) {
	if euid != 0 {
		return nil, nil //nolint:nilnil // no user to drop to is an answer, not a failure
	}
	if named != "" {
		found, err := findUser(named)
		if err != nil {
			return nil, fmt.Errorf("embedded: %s=%s: %w; name a user of this system other than root", EnvUser, named, err)
		}
		return found, nil
	}
	for _, name := range fallback {
		if found, err := findUser(name); err == nil {
			return found, nil
		}
	}
	return nil, fmt.Errorf("embedded: PostgreSQL refuses to run as root, and this system has no user named %s: name an ordinary user in %s", strings.Join(fallback, " or "), EnvUser)
}

func findUser(name string) (*osUser, error) {
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
		return nil, fmt.Errorf("user %s is root, as whom PostgreSQL refuses to run", name)
	}
	return &osUser{Name: name, UID: uid, GID: gid}, nil
}
