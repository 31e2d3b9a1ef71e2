// Package contest holds what is compared: the same operations on the same table, written with rdsfx and with its peers as
// somebody who knows each of them well would write them. It measures nothing; package measure does.
package contest
