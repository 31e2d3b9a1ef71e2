package postgres

// FindInPath is Find in another environment. It searches only PATH for installed binaries.
func FindInPath(env map[string]string, downloaded ...string) (Found, error) {
	get := func(name string) string { return env[name] }
	return find(sources(get, []searchPath{pathVariable(env["PATH"])}, Downloads{BinDirs: downloaded, Reason: "none yet"}))
}

// FindInGlobs searches for installed binaries in the directories that patterns match.
func FindInGlobs(patterns ...string) (Found, error) {
	var paths []searchPath
	for _, pattern := range patterns {
		paths = append(paths, globPattern(pattern))
	}
	return find(sources(func(string) string { return "" }, paths, Downloads{Reason: "none yet"}))
}

// These functions take the operating system's properties as arguments.
var (
	InstallCommand  = installCommand
	InstallPatterns = installPatterns
	OSRelease       = osRelease
	ServerEnviron   = serverEnviron
)

// WriteLog writes lines to a log that is rotated at limit bytes and returns its tail.
func WriteLog(path string, limit int64, lines ...string) (string, error) {
	log, err := OpenLog(path)
	if err != nil {
		return "", err
	}
	defer log.Close()
	log.limit = limit
	for _, line := range lines {
		if _, err := log.Write([]byte(line)); err != nil {
			return "", err
		}
	}
	return log.Tail(), nil
}
