package awsauth

import "strings"

// rdsSuffixes end the host names of RDS, Aurora and RDS Proxy; the region precedes them.
var rdsSuffixes = []string{".rds.amazonaws.com", ".rds.amazonaws.com.cn"}

// globalEndpoint is what stands for the region in the endpoint of an Aurora global database.
const globalEndpoint = "global"

// regionOfHost returns the region in the host name of an RDS or DSQL endpoint, "" if there is none.
func regionOfHost(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, suffix := range rdsSuffixes {
		if rest, ok := strings.CutSuffix(host, suffix); ok {
			if region := rest[strings.LastIndexByte(rest, '.')+1:]; region != globalEndpoint {
				return region
			}
		}
	}
	// <cluster>.dsql.<region>.on.aws
	if rest, ok := strings.CutSuffix(host, ".on.aws"); ok {
		labels := strings.Split(rest, ".")
		if n := len(labels); n > 2 && strings.HasPrefix(labels[n-2], "dsql") {
			return labels[n-1]
		}
	}
	return ""
}

// isRDSHost reports whether host is an endpoint of RDS, for which tokens can be made.
func isRDSHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, suffix := range rdsSuffixes {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// regionOfARN returns the region in an ARN, "" for another text.
func regionOfARN(arn string) string {
	const regionField = 3
	if fields := strings.Split(arn, ":"); len(fields) > regionField && fields[0] == "arn" {
		return fields[regionField]
	}
	return ""
}
