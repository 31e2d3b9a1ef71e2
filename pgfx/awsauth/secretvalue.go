package awsauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

// The staging labels of a secret's versions (AWS Secrets Manager user guide, "Secret versions").
const (
	stageCurrent = "AWSCURRENT"
	stagePending = "AWSPENDING"
)

// secretValue is what a version of a secret holds. It prints without the password.
type secretValue struct {
	username, password, host, database string

	port    uint16
	version string
	stage   string
}

// login identifies the credentials of a value.
type login struct{ username, password string }

func (v secretValue) login() login { return login{v.username, v.password} }

// Format implements fmt.Formatter.
func (v secretValue) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "{%s %s %s %s}", v.username, redact.Mask, v.stage, v.version)
}

// secretJSON has the keys of secrets for databases (AWS Secrets Manager user guide, "JSON structure of secrets"). A secret that RDS
// manages has only the first two.
type secretJSON struct {
	Username string          `json:"username"`
	Password string          `json:"password"`
	Host     string          `json:"host"`
	Port     json.RawMessage `json:"port"` // a number, or the same as text
	Database string          `json:"dbname"`
}

// parseSecret reads the text of a secret. A text that is no JSON object is a password. Errors do not quote the text.
func parseSecret(text string) (secretValue, error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		if text = strings.TrimSpace(text); text == "" {
			return secretValue{}, errors.New("it is empty")
		}
		return secretValue{password: text}, nil
	}
	var fields secretJSON
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return secretValue{}, errors.New("it is no valid JSON object with the keys username, password, host, port and dbname as text")
	}
	if fields.Password == "" {
		return secretValue{}, errors.New(`it has no key "password"`)
	}
	const defaultPort = 5432
	value := secretValue{
		username: fields.Username, password: fields.Password, host: fields.Host, database: fields.Database, port: defaultPort,
	}
	if port := strings.Trim(string(fields.Port), `"`); port != "" && port != "null" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return secretValue{}, errors.New(`its key "port" is no port number`)
		}
		value.port = uint16(number)
	}
	return value, nil
}

// secretReader reads versions of one secret.
type secretReader struct {
	id     string
	region string
	aws    awsConfig
}

// read returns the version of the secret with a staging label, or nil if no version has it.
func (r *secretReader) read(ctx context.Context, stage string) (*secretValue, error) {
	loaded, err := r.aws.load(ctx)
	if err != nil {
		return nil, err
	}
	client := secretsmanager.NewFromConfig(loaded, func(o *secretsmanager.Options) {
		if r.region != "" {
			o.Region = r.region
		}
	})
	out, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &r.id, VersionStage: &stage})
	if err != nil {
		if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing && stage == stagePending {
			return nil, nil //nolint:nilnil // documented
		}
		return nil, fmt.Errorf("awsauth: read secret %q: %w", r.id, err)
	}
	if out.SecretString == nil {
		return nil, fmt.Errorf("awsauth: secret %q cannot be used: it has no text, only binary data", r.id)
	}
	value, err := parseSecret(*out.SecretString)
	if err != nil {
		return nil, fmt.Errorf("awsauth: secret %q cannot be used: %w", r.id, err)
	}
	value.stage, value.version = stage, aws.ToString(out.VersionId)
	return &value, nil
}
