package redisstore_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo/cutover/redisstore"
)

func TestValue_HasOneJSONForm(t *testing.T) {
	t.Parallel()
	for document, value := range map[string]redisstore.Value{
		`{"type":"string","string":"text"}`:                   {Type: redisstore.TypeString, String: []byte("text")},
		`{"type":"string","string":""}`:                       {Type: redisstore.TypeString, String: []byte{}},
		`{"type":"string","base64":true,"string":"AP8="}`:     {Type: redisstore.TypeString, String: []byte{0, 0xff}},
		`{"type":"hash","hash":{"a":"1","b":"2"}}`:            {Type: redisstore.TypeHash, Hash: map[string]string{"b": "2", "a": "1"}},
		`{"type":"hash","base64":true,"hash":{"YQ==":"/w="}}`: {},
		`{"type":"list","list":["b","a"]}`:                    {Type: redisstore.TypeList, List: []string{"b", "a"}},
		`{"type":"set","set":["a","b"]}`:                      {Type: redisstore.TypeSet, Set: []string{"a", "b"}},
		`{"type":"set","base64":true,"set":["AA==","YQ=="]}`:  {Type: redisstore.TypeSet, Set: []string{"\x00", "a"}},
		`{"type":"zset","zset":{"a":0.1,"b":"+inf","c":"-inf"}}`: {
			Type: redisstore.TypeSortedSet, SortedSet: map[string]float64{"a": 0.1, "b": math.Inf(1), "c": math.Inf(-1)},
		},
	} {
		var read redisstore.Value
		if value.Type == "" {
			require.Error(t, json.Unmarshal([]byte(document), &read), document)
			continue
		}
		text, err := json.Marshal(value)
		require.NoError(t, err)
		assert.Equal(t, document, string(text))
		require.NoError(t, json.Unmarshal([]byte(document), &read))
		assert.Equal(t, value, read)
	}
	_, err := json.Marshal(redisstore.Value{Type: "stream"})
	require.ErrorContains(t, err, `a value of the type "stream" has no JSON form`)
	for document, message := range map[string]string{
		`[]`:                                 `redisstore: value: `,
		`{"type":"stream"}`:                  `unknown type "stream"`,
		`{"type":"string"}`:                  `there is no "string"`,
		`{"type":"zset","zset":{"a":"one"}}`: `score "one"`,
	} {
		require.ErrorContains(t, json.Unmarshal([]byte(document), new(redisstore.Value)), message, document)
	}
}
