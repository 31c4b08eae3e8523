// Package config is the only reader of the environment. It knows every variable, its default and what
// is accepted, and refuses what is wrong or unsafe with one clear line per problem.
//
// It owns the names, defaults and bounds of configuration; durations that follow from the lease belong
// to the election. It may import relay, which reads its URLs itself, supervise, which bounds a shutdown, caarlos0/env and x/net's httpproxy, which knows
// the conventions of the proxy variables.
package config
