package backendai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// catalogueRows is spec/rest-core §3.2, row by row.
const catalogueRows = `
URLNotFound|url-not-found|404|url-not-found|Unknown URL path.
ObjectNotFound|object-not-found|404|object-not-found|No such object.
GenericBadRequest|generic-bad-request|400|generic-bad-request|Bad request.
RejectedByHook|rejected-by-hook|400|rejected-by-hook|Operation rejected by a hook plugin.
InvalidCredentials|invalid-credentials|400|invalid-credentials|Invalid credentials for authentication.
GenericForbidden|generic-forbidden|403|generic-forbidden|Forbidden operation.
InsufficientPrivilege|insufficient-privilege|403|insufficient-privilege|Insufficient privilege.
MethodNotAllowed|method-not-allowed|405|method-not-allowed|HTTP Method Not Allowed.
InternalServerError|internal-server-error|500|internal-server-error|Internal server error.
ServerMisconfigured|server-misconfigured|500|server-misconfigured|Service misconfigured.
ServiceUnavailable|service-unavailable|503|service-unavailable|Serivce unavailable.
QueryNotImplemented|not-implemented|503|not-implemented|This API query is not implemented.
InvalidAuthParameters|invalid-auth-params|400|invalid-auth-params|Missing or invalid authorization parameters.
AuthorizationFailed|auth-failed|401|auth-failed|Credential/signature mismatch.
InvalidAPIParameters|invalid-api-params|400|invalid-api-params|Missing or invalid API parameters.
GraphQLError|graphql-error|400|graphql-error|GraphQL-generated error.
TooManySessionsMatched|too-many-sessions-matched|404|too-many-sessions-matched|Too many sessions matched.
TooManyKernelsFound|too-many-kernels|404|too-many-kernels|There are two or more matching kernels.
SessionAlreadyExists|session-already-exists|400|session-already-exists|The session already exists but you requested not to reuse existing one.
VFolderCreationFailed|vfolder-creation-failed|400|vfolder-creation-failed|Virtual folder creation has failed.
TooManyVFoldersFound|too-many-vfolders|404|too-many-vfolders|There are two or more matching vfolders.
VFolderAlreadyExists|vfolder-already-exists|400|vfolder-already-exists|The virtual folder already exists with the same name.
VFolderOperationFailed|vfolder-operation-failed|400|vfolder-operation-failed|Virtual folder operation has failed.
DotfileCreationFailed|dotfile-creation-failed|400|generic-bad-request|Dotfile creation has failed.
DotfileAlreadyExists|dotfile-already-exists|400|generic-bad-request|Dotfile already exists.
QuotaExceeded|quota-exceeded|412|quota-exceeded|You have reached your resource limit.
RateLimitExceeded|rate-limit-exceeded|429|rate-limit-exceeded|You have reached your API query rate limit.
InstanceNotAvailable|instance-not-available|503|instance-not-available|There is no available instance.
ServerFrozen|server-frozen|503|server-frozen|The server is frozen due to maintenance. Please try again later.
StorageProxyError|storage-proxy-error|502|storage-proxy-error|The storage proxy returned an error.
KernelCreationFailed|kernel-creation-failed|500|kernel-creation-failed|Kernel creation has failed.
KernelDestructionFailed|kernel-destruction-failed|500|kernel-destruction-failed|Kernel destruction has failed.
KernelRestartFailed|kernel-restart-failed|500|kernel-restart-failed|Kernel restart has failed.
KernelExecutionFailed|kernel-execution-failed|500|kernel-execution-failed|Executing user code in the kernel has failed.
PluginError|plugin-error|400|plugin-error|Plugin generated error
PluginConfigurationError|plugin-config-error|400|plugin-config-error|Plugin configuration error
GeneralError|general-error|400|general-error|General Backend API Error.
InstanceNotFound|instance-not-found|404|object-not-found|No such agent instance.
ImageNotFound|image-not-found|404|object-not-found|No such environment image.
DomainNotFound|domain-not-found|404|object-not-found|No such domain.
GroupNotFound|group-not-found|404|object-not-found|No such user group (or project).
ScalingGroupNotFound|scaling-group-not-found|404|object-not-found|No such scaling group.
SessionNotFound|session-not-found|404|object-not-found|No such session.
TaskTemplateNotFound|task-template-not-found|404|object-not-found|No such task template.
AppNotFound|app-not-found|404|object-not-found|No such app service.
VFolderNotFound|vfolder-not-found|404|object-not-found|No such virtual folder.
DotfileNotFound|dotfile-not-found|404|object-not-found|No such dotfile.
UnknownImageReference|unknown-image-reference|404|object-not-found|No such image reference.
InvalidArgument|invalid-argument|400|invalid-api-params|Missing or invalid API parameters.
StaleEpoch|stale-epoch|500|internal-server-error|Internal server error.
(unheard of)|unheard-of|500|internal-server-error|Internal server error.`

func TestCatalogue(t *testing.T) {
	for line := range strings.SplitSeq(strings.TrimSpace(catalogueRows), "\n") {
		f := strings.Split(line, "|")
		c := Code(f[1])
		if got := fmt.Sprint(c.HTTPStatus()); got != f[2] || c.Type() != "https://api.backend.ai/probs/"+f[3] || c.Title() != f[4] {
			t.Errorf("%s: %s %s %q", f[0], got, c.Type(), c.Title())
		}
		if parent := c.row().parent; parent != "" && !errors.Is(NewError(c), parent) {
			t.Errorf("%s is no %s", c, parent)
		}
	}
	for c, p := range catalogue {
		if p.status < 400 || p.title == "" {
			t.Errorf("%s has no status or title", c)
		}
	}
}

func TestProblem(t *testing.T) {
	const base = `{"type": "https://api.backend.ai/probs/`
	for want, e := range map[string]*Error{
		base + `url-not-found", "title": "Unknown URL path.", "data": "/nowhere"}`:                              NewError(URLNotFound).WithData("/nowhere"),
		base + `object-not-found", "title": "No such session."}`:                                                NewError(SessionNotFound),
		base + `object-not-found", "title": "No such vfolder."}`:                                                NoSuch("vfolder"),
		base + `generic-forbidden", "title": "Forbidden operation.", "msg": ""}`:                                Errorf(GenericForbidden, ""),
		base + `generic-forbidden", "title": "Forbidden operation.", "msg": "100%"}`:                            Errorf(GenericForbidden, "%s", "100%"),
		base + `internal-server-error", "title": "Internal server error."}`:                                     Internal(errors.New("password=x")),
		base + `invalid-api-params", "title": "Missing or invalid API parameters.", "msg": "bad", "data": {}}`:  InvalidParameters("bad", map[string]any{}),
		base + `invalid-api-params", "title": "Missing or invalid API parameters.", "msg": "a, b: \"\u00e9\""}`: Errorf(InvalidArgument, "a, b: %q", "é"),
		base + `method-not-allowed", "title": "HTTP Method Not Allowed.", "msg": "PUT", "data": ["GET", "POST"]}`: MethodNotAllowedError("PUT",
			[]string{"POST", "GET"}),
		base + `kernel-creation-failed", "title": "Kernel creation has failed.", "agent-details": {"type": "https://api.backend.ai/probs/agent-timeout", "title": null}}`: AgentError(
			KernelCreationFailed, AgentTimeout, ""),
		base + `kernel-execution-failed", "title": "Executing user code in the kernel has failed.", "agent-details": {"type": "https://api.backend.ai/probs/agent-failure", ` +
			`"title": "Agent-side exception occurred.", "exception": "E('<x>')"}}`: AgentException(KernelExecutionFailed, "E('<x>')"),
		base + `internal-server-error", "title": "Internal server error."} `: Errorf(StaleEpoch, "shard 7 of node n2").WithData("inside"),
	} {
		got, err := e.Problem()
		if err != nil || string(got) != strings.TrimSpace(want) {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
		if !json.Valid(got) {
			t.Errorf("%s is no JSON", got)
		}
	}
	// The recorded length of an unknown path's body, so the blanks are right.
	if b, _ := NewError(URLNotFound).WithData("/nowhere").Problem(); len(b) != 104 {
		t.Error(len(b))
	}
	if _, err := NewError(URLNotFound).WithData(make(chan int)).Problem(); err == nil {
		t.Error("data that is no JSON must be an error")
	}
}

func TestErrorText(t *testing.T) {
	for want, e := range map[string]*Error{
		"No such session.":           NewError(SessionNotFound),
		"Forbidden operation. (why)": Errorf(GenericForbidden, "why").WithData(map[string]any{}),
		"Bad request. (x)\n -> extra_data: {'a': [1, None, True], 'b': \"it's\"}": Errorf(GenericBadRequest, "x").WithData(map[string]any{"b": "it's", "a": []any{1, nil, true}}),
	} {
		if got := e.Text(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := Repr("a\n\\'\"\x01é"); got != `'a\n\\\'"\x01é'` {
		t.Error(got)
	}
}

func TestErrorIdentity(t *testing.T) {
	e := Errorf(SessionNotFound, "x").WithCause(io.EOF)
	wrapped := fmt.Errorf("while looking: %w", e)
	if !errors.Is(wrapped, SessionNotFound) || !errors.Is(wrapped, ObjectNotFound) || errors.Is(wrapped, ImageNotFound) || !errors.Is(wrapped, io.EOF) {
		t.Error("errors.Is")
	}
	if CodeOf(wrapped) != SessionNotFound || CodeOf(nil) != "" || CodeOf(io.EOF) != InternalServerError || CodeOf(context.DeadlineExceeded) != DeadlineExceeded ||
		CodeOf(fmt.Errorf("%w", Conflict)) != Conflict {
		t.Error("CodeOf")
	}
	if AsError(nil) != nil || AsError(wrapped) != e || AsError(io.EOF).HTTPStatus() != 500 || !errors.Is(AsError(io.EOF), io.EOF) {
		t.Error("AsError")
	}
	if a := AgentException(KernelRestartFailed, "E()"); !errors.Is(a, KernelRestartFailed) || !errors.Is(a, AgentFailure) || a.HTTPStatus() != 500 {
		t.Error("agent errors")
	}
	if StorageProxy(404, "x").HTTPStatus() != 404 || StorageProxy(200, "x").HTTPStatus() != 502 || AgentError(GeneralError, AgentTimeout, "t").HTTPStatus() != 500 {
		t.Error("status overrides")
	}
	if e.Error() != "session-not-found: x: EOF" || strings.Contains(string(must(e.Problem())), "EOF") {
		t.Error(e)
	}
	if ExitCode(nil) != 0 || ExitCode(io.EOF) != 1 || ExitCode(NewError(InvalidConfig)) != 1 || ExitCode(NewError(InvalidUsage)) != 2 {
		t.Error("exit codes")
	}
	if copied := e.WithData(1).WithMessage("y"); *e.Message != "x" || e.Data != nil || *copied.Message != "y" {
		t.Error("With… changed its receiver")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
