package election

import "errors"

// ErrNotPrimary says that only the primary can do what was asked.
var ErrNotPrimary = errors.New("this replica is not primary")

// ErrNoSuccessor says that the primary knows no standby, or none of that name, that could take over.
var ErrNoSuccessor = errors.New("no such standby can take over")
