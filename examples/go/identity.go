package main

// Who calls. A real identity provider has its own ways.

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// identity is somebody, with a token of the development issuer. It is a credentials.PerRPCCredentials:
// gRPC asks it for the headers of every try of every call.
type identity struct {
	issuer, role, subject string

	lock    sync.Mutex
	token   string
	renewAt time.Time
}

// GetRequestMetadata returns headers with a token that is still good. It gets one at the first call, and
// a new one when the last has lived nine tenths of its time.
func (i *identity) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	i.lock.Lock()
	defer i.lock.Unlock()
	if time.Now().After(i.renewAt) {
		if err := i.renew(); err != nil {
			return nil, err
		}
	}
	return map[string]string{"authorization": "Bearer " + i.token, "accept-language": "en"}, nil
}

// RequireTransportSecurity says no, or gRPC would send no token to `taxi dev`, which serves without TLS.
// A client that never speaks to one says yes.
func (i *identity) RequireTransportSecurity() bool { return false }

// renew gets a new token.
func (i *identity) renew() error {
	asked := time.Now()
	client := http.Client{Timeout: deadline}
	answer, err := client.PostForm(i.issuer+"/oauth2/token", url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {i.subject},
		"client_secret": {"dev"},
		"scope":         {i.role},
	})
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusUnauthorized:
		return status.Errorf(codes.Unauthenticated, "no token for %s: %s", i.subject, answer.Status)
	default:
		return status.Errorf(codes.Unavailable, "no token for %s: %s", i.subject, answer.Status)
	}
	var granted struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&granted); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	i.token = granted.AccessToken
	i.renewAt = asked.Add(time.Duration(granted.ExpiresIn) * time.Second * 9 / 10)
	return nil
}
