package main

// What every client of taxi needs, whatever it is for.

import (
	"context"
	"log"
	"math/rand/v2"
	"net/url"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
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

// connect opens one connection that carries all calls of somebody to all services: HTTP/2, without TLS
// when `taxi dev` serves.
func connect(base, role, subject string) (*grpc.ClientConn, error) {
	address, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	security := insecure.NewCredentials()
	if address.Scheme == "https" {
		security = credentials.NewTLS(nil)
	}
	return grpc.NewClient(
		address.Host,
		grpc.WithTransportCredentials(security),
		grpc.WithPerRPCCredentials(&identity{issuer: base, role: role, subject: subject}),
		grpc.WithUnaryInterceptor(patiently),
	)
}

// patiently calls, and calls again when that makes sense. The request is the same each time, its
// request_id included. That is what makes it safe: the server does it once, even when its first answer
// was lost. It ends early when the caller's own context does.
func patiently(
	ctx context.Context, method string, request, answer any,
	gateway *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	for try := 1; ; try++ {
		limited, cancel := context.WithTimeout(ctx, deadline)
		err := call(limited, method, request, answer, gateway, options...)
		cancel()
		if err == nil || try == tries || !mayBeRepeated(err) || !wait(ctx, err, try) {
			return err
		}
	}
}

// mayBeRepeated tells whether the same request may do better later. The server says so by RetryInfo. The
// two codes are also what our own side says when there was no connection, or no answer in time.
func mayBeRepeated(err error) bool {
	code := status.Code(err)
	return detail[*errdetails.RetryInfo](err) != nil || code == codes.Unavailable || code == codes.DeadlineExceeded
}

// wait waits for as long as the server asks for, longer each time, and not all clients alike. It says no
// when nobody waits with it any more.
func wait(ctx context.Context, err error, try int) bool {
	if ctx.Err() != nil {
		return false
	}
	asked := detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration()
	pause := max(asked, firstPause<<(try-1))
	pause += rand.N(pause / 2)
	log.Printf("%s: again in %.1f s", codeName(err), pause.Seconds())
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
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
// request with the last one of them goes on behind it. Changes may be joined, and WatchOpenDrivings sends
// its whole list anew: forget the old one.
type watch[Answer any] struct {
	// Opens the stream behind the answer with this token.
	open   func(ctx context.Context, token string) (grpc.ServerStreamingClient[Answer], error)
	ctx    context.Context
	token  string
	stream grpc.ServerStreamingClient[Answer]
	opened time.Time
	// Breaks it, as a tunnel does; also ends it, when nobody asks for more.
	cut context.CancelFunc
}

// follow makes a watch of a method that streams. It lasts no longer than the context.
func follow[Request proto.Message, Answer any](
	ctx context.Context,
	method func(context.Context, Request, ...grpc.CallOption) (grpc.ServerStreamingClient[Answer], error),
	request Request,
) *watch[Answer] {
	message := request.ProtoReflect()
	resumeToken := message.Descriptor().Fields().ByName("resume_token")
	open := func(ctx context.Context, token string) (grpc.ServerStreamingClient[Answer], error) {
		message.Set(resumeToken, protoreflect.ValueOfString(token))
		return method(ctx, request)
	}
	return &watch[Answer]{open: open, ctx: ctx, cut: func() {}}
}

// next waits for the next answer. It returns io.EOF when the server says that there will be none, as
// WatchAllocation does when the ride is over.
func (w *watch[Answer]) next() (*Answer, error) {
	for failures := 1; ; failures++ {
		answer, err := w.receive()
		if err == nil {
			w.token = any(answer).(interface{ GetResumeToken() string }).GetResumeToken()
			return answer, nil
		}
		w.cut()
		w.stream = nil
		// That nothing has happened for a while is no failure. That it could not begin is one.
		if time.Since(w.opened) > streamDeadline/2 {
			failures = 1
		}
		// Canceled: by cut, or by a proxy on the way.
		again := mayBeRepeated(err) || status.Code(err) == codes.Canceled
		if failures == tries || !again || !wait(w.ctx, err, failures) {
			return nil, err
		}
	}
}

// receive reads from the stream, which it opens when there is none.
func (w *watch[Answer]) receive() (*Answer, error) {
	if w.stream == nil {
		var limited context.Context
		limited, w.cut = context.WithTimeout(w.ctx, streamDeadline)
		w.opened = time.Now()
		stream, err := w.open(limited, w.token)
		if err != nil {
			return nil, err
		}
		w.stream = stream
	}
	return w.stream.Recv()
}
