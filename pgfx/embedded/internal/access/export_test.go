package access

// SelectUser exposes selectUser.
var SelectUser = selectUser
