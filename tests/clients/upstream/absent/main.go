// Stands between a server and upstream's kube-scheduler, which does nothing until it has seen volumes, devices and CSI
// nodes: it answers reads of collections that the server does not have as if they were there and empty. Everything else
// goes through.
//
//	absent KUBECONFIG ADDRESS
package main

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		log.Fatal(err)
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		log.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(server) },
		Transport:      transport,
		FlushInterval:  -1,
		ModifyResponse: fill,
	}
	log.Fatal(http.ListenAndServe(os.Args[2], proxy))
}

// fill turns a 404 for a collection into an empty one.
func fill(response *http.Response) error {
	request := response.Request
	// An object that is not there stays so.
	if response.StatusCode != http.StatusNotFound || request.Method != http.MethodGet || !isUnknown(response) {
		return nil
	}
	query := request.URL.Query()
	switch {
	case query.Get("sendInitialEvents") == "true":
		// As a server that has no streaming lists: the client lists then.
		say(response, http.StatusUnprocessableEntity, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	case query.Get("watch") != "":
		seconds, _ := strconv.Atoi(query.Get("timeoutSeconds"))
		ctx, cancel := context.WithTimeout(request.Context(), time.Duration(seconds)*time.Second)
		say(response, http.StatusOK, "")
		response.Body = silence{ctx, cancel}
		response.ContentLength = -1
		response.Header.Del("Content-Length")
	default:
		say(response, http.StatusOK, `{"metadata":{"resourceVersion":"1"},"items":[]}`)
	}
	return nil
}

// isUnknown tells a path that the server does not have from an object that is not there.
func isUnknown(response *http.Response) bool {
	body, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(body))
	return err == nil && (bytes.Contains(body, []byte("page not found")) || bytes.Contains(body, []byte("the server could not find the requested resource")))
}

func say(response *http.Response, code int, body string) {
	response.Body.Close()
	response.StatusCode, response.Status = code, http.StatusText(code)
	response.Body = io.NopCloser(bytes.NewBufferString(body))
	response.ContentLength = int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	response.Header.Set("Content-Type", "application/json")
}

// silence is a watch of something that never changes.
type silence struct {
	context.Context
	cancel context.CancelFunc
}

func (s silence) Read([]byte) (int, error) {
	<-s.Done()
	return 0, io.EOF
}

func (s silence) Close() error {
	s.cancel()
	return nil
}
