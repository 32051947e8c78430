package signing

import (
	"crypto/md5"  //nolint:gosec // part of the protocol
	"crypto/sha1" //nolint:gosec // part of the protocol
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/blake2s"

	backendai "backend.ai/manager"
)

// Authorization is a parsed Authorization header. Method is not yet checked: an unknown access key is told first.
type Authorization struct {
	Method    string
	AccessKey backendai.AccessKey
	Signature string
}

// ParseAuthorization reads "BackendAI signMethod=…, credential=KEY:SIGNATURE" (spec/rest-core §2.4). Errors: InvalidAuthParameters with
// the messages of the original; an item without "=", which crashed the original, counts as malformed parameters.
func ParseAuthorization(header string) (Authorization, error) {
	scheme, rest, found := strings.Cut(header, " ")
	if !found {
		return Authorization{}, backendai.Errorf(backendai.InvalidAuthParameters, "Malformed authorization header")
	}
	if scheme != "BackendAI" && scheme != "Sorna" {
		return Authorization{}, backendai.Errorf(backendai.InvalidAuthParameters, "Invalid authorization type name")
	}
	malformed := backendai.Errorf(backendai.InvalidAuthParameters, "Missing or malformed authorization parameters")
	var method, credential *string
	for item := range strings.SplitSeq(rest, ",") {
		key, value, found := strings.Cut(item, "=")
		if !found {
			return Authorization{}, malformed
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "signMethod":
			method = &value
		case "credential":
			credential = &value
		}
	}
	if method == nil || credential == nil {
		return Authorization{}, malformed
	}
	key, signature, found := strings.Cut(*credential, ":")
	if !found {
		return Authorization{}, malformed
	}
	return Authorization{Method: *method, AccessKey: backendai.AccessKey(key), Signature: signature}, nil
}

// Header is the reverse of ParseAuthorization.
func (a Authorization) Header() string {
	return "BackendAI signMethod=" + a.Method + ", credential=" + string(a.AccessKey) + ":" + a.Signature
}

// Method is a checked signing method.
type Method struct {
	name      string
	hash      func() hash.Hash
	emptyHash string
}

// DefaultMethod is what official clients use.
const DefaultMethod = "HMAC-SHA256"

var methods = func() map[string]Method {
	all := map[string]func() hash.Hash{
		"md5": md5.New, "sha1": sha1.New, "sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
		"sha3_224": func() hash.Hash { return sha3.New224() }, "sha3_256": func() hash.Hash { return sha3.New256() },
		"sha3_384": func() hash.Hash { return sha3.New384() }, "sha3_512": func() hash.Hash { return sha3.New512() },
		// Without a key the constructors cannot fail.
		"blake2b": func() hash.Hash { h, _ := blake2b.New512(nil); return h },
		"blake2s": func() hash.Hash { h, _ := blake2s.New256(nil); return h },
	}
	m := make(map[string]Method, len(all))
	for name, h := range all {
		m[name] = Method{name: name, hash: h, emptyHash: hex.EncodeToString(h().Sum(nil))}
	}
	return m
}()

var (
	errMethodShape = backendai.Errorf(backendai.AuthorizationFailed, "Invalid signature")
	errMAC         = backendai.Errorf(backendai.InvalidAuthParameters, "Unsupported request signing method (MAC type)")
	errHash        = backendai.Errorf(backendai.InvalidAuthParameters, "Unsupported request signing method (hash type)")
)

// ParseMethod reads "HMAC-<hash>", in any case (spec/rest-core §2.5 step 1). Errors: AuthorizationFailed when it has not two parts,
// InvalidAuthParameters for an unknown MAC or hash. The shake functions, which crashed the original, are unknown hashes.
func ParseMethod(text string) (Method, error) {
	mac, name, found := strings.Cut(strings.ToLower(text), "-")
	if !found || strings.Contains(name, "-") {
		return Method{}, errMethodShape
	}
	if mac != "hmac" {
		return Method{}, errMAC
	}
	m, known := methods[name]
	if !known {
		return Method{}, errHash
	}
	return m, nil
}

// Name is the hash's name in lower case, "sha256".
func (m Method) Name() string { return m.name }
