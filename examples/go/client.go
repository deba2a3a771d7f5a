package main

// What every client of taxi needs, whatever it is for.

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// How long one try of a call may take. Without a deadline a call may hang for ever.
	deadline = 10 * time.Second
	// A stream has one too, or a connection that died silently would keep it for ever.
	streamDeadline = 5 * time.Minute
	// How often a call is tried, and how long the first pause is, unless the server asks for more.
	tries      = 8
	firstPause = 200 * time.Millisecond
)

// connect opens one connection that carries all calls to all services: HTTP/2, without TLS when
// `taxi dev` serves.
func connect(base string) (*grpc.ClientConn, error) {
	address, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	security := insecure.NewCredentials()
	if address.Scheme == "https" {
		security = credentials.NewTLS(nil)
	}
	return grpc.NewClient(address.Host, grpc.WithTransportCredentials(security), grpc.WithUnaryInterceptor(patiently))
}

// identity gets a token of the development issuer, and returns a context for calls in this name. A real
// identity provider has its own ways. Tokens expire (`expires_in` seconds): a client that lives longer
// gets a new one in time.
func identity(base, role, subject string) (context.Context, error) {
	client := http.Client{Timeout: deadline}
	answer, err := client.PostForm(base+"/oauth2/token", url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {subject},
		"client_secret": {"dev"},
		"scope":         {role},
	})
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&granted); err != nil || granted.AccessToken == "" {
		return nil, fmt.Errorf("no token from %s: %s", base, answer.Status)
	}
	return metadata.AppendToOutgoingContext(
		context.Background(), "authorization", "Bearer "+granted.AccessToken, "accept-language", "en",
	), nil
}

// patiently calls, and calls again when that makes sense. The request is the same each time, its
// request_id included. That is what makes it safe: the server does it once, even when its first answer
// was lost.
func patiently(
	ctx context.Context, method string, request, answer any,
	gateway *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	for try := 1; ; try++ {
		limited, cancel := context.WithTimeout(ctx, deadline)
		err := call(limited, method, request, answer, gateway, options...)
		cancel()
		if err == nil || try == tries || !mayBeRepeated(err) {
			return err
		}
		wait(err, try)
	}
}

// mayBeRepeated tells whether the same request may do better later. The server says so by RetryInfo. The
// two codes are also what our own side says when there was no connection, or no answer in time.
func mayBeRepeated(err error) bool {
	code := status.Code(err)
	return detail[*errdetails.RetryInfo](err) != nil || code == codes.Unavailable || code == codes.DeadlineExceeded
}

// wait waits for as long as the server asks for, longer each time, and not all clients alike.
func wait(err error, try int) {
	asked := detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration()
	pause := max(asked, firstPause<<(try-1))
	pause += rand.N(pause / 2)
	log.Printf("%s: again in %.1f s", codeName(err), pause.Seconds())
	time.Sleep(pause)
}

// detail is what an error says beside its code: one of google.rpc's messages, or nil.
func detail[T any](err error) (found T) {
	for _, one := range status.Convert(err).Details() {
		if it, is := one.(T); is {
			return it
		}
	}
	return found
}

// codeName is the name of an error's code as it is in all languages: INVALID_ARGUMENT.
func codeName(err error) string { return code.Code(status.Code(err)).String() }

// watch is a stream that carries on where it was when it breaks. Every answer brings a resume_token. A
// request with the last one of them gets what has come since: nothing is missing and nothing comes twice.
type watch[Answer any] struct {
	// Opens the stream behind the answer with this token.
	open   func(ctx context.Context, token string) (grpc.ServerStreamingClient[Answer], error)
	who    context.Context
	token  string
	stream grpc.ServerStreamingClient[Answer]
	// Breaks it, as a tunnel does; also ends it, when nobody asks for more.
	cut context.CancelFunc
}

// follow makes a watch of a method that streams.
func follow[Request proto.Message, Answer any](
	who context.Context,
	method func(context.Context, Request, ...grpc.CallOption) (grpc.ServerStreamingClient[Answer], error),
	request Request,
) *watch[Answer] {
	message := request.ProtoReflect()
	resumeToken := message.Descriptor().Fields().ByName("resume_token")
	open := func(ctx context.Context, token string) (grpc.ServerStreamingClient[Answer], error) {
		message.Set(resumeToken, protoreflect.ValueOfString(token))
		return method(ctx, request)
	}
	return &watch[Answer]{open: open, who: who, cut: func() {}}
}

// next waits for the next answer.
func (w *watch[Answer]) next() (*Answer, error) {
	for failures := 0; ; {
		answer, err := w.receive()
		if err == nil {
			w.token = any(answer).(interface{ GetResumeToken() string }).GetResumeToken()
			return answer, nil
		}
		w.cut()
		w.stream = nil
		// That nothing has happened for a while is no failure.
		if status.Code(err) == codes.DeadlineExceeded {
			continue
		}
		failures++
		// Canceled: by cut, or by a proxy on the way.
		if failures == tries || !mayBeRepeated(err) && status.Code(err) != codes.Canceled {
			return nil, err
		}
		wait(err, failures)
	}
}

// receive reads from the stream, which it opens when there is none.
func (w *watch[Answer]) receive() (*Answer, error) {
	if w.stream == nil {
		var limited context.Context
		limited, w.cut = context.WithTimeout(w.who, streamDeadline)
		stream, err := w.open(limited, w.token)
		if err != nil {
			return nil, err
		}
		w.stream = stream
	}
	return w.stream.Recv()
}
