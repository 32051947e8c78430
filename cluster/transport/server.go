package transport

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// framesMethod is the one call that there is. Its messages are google.protobuf.BytesValue, so nothing has to be generated.
const framesMethod = "/backendai.cluster.Transport/Frames"

type receiver interface{ frames(grpc.ServerStream) error }

var framesDesc = grpc.ServiceDesc{
	ServiceName: "backendai.cluster.Transport",
	HandlerType: (*receiver)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName: "Frames", ClientStreams: true, ServerStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error { return srv.(receiver).frames(stream) },
	}},
}

func (t *Transport) newServer() *grpc.Server {
	s := grpc.NewServer(
		grpc.Creds(t.credentials("")),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(16), // of one connection; a peer needs one
		// Of a fixed size: else gRPC adapts it to the way, by pings beside what is sent, and nodes are close to each other.
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.StreamInterceptor(t.recovering),
		grpc.WaitForHandlers(true),
	)
	s.RegisterService(&framesDesc, t)
	return s
}

// frames takes what one peer sends until that ends.
func (t *Transport) frames(stream grpc.ServerStream) error {
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		var m wrapperspb.BytesValue
		err := stream.RecvMsg(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := split(m.Value, t.cfg.Receive); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
}

// recovering ends the stream, and nothing else, when a receiver panics.
func (t *Transport) recovering(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			t.log.Error("a message of another node has made its receiver panic", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "the receiver has failed")
		}
	}()
	return handler(srv, stream)
}
