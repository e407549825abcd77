// Writes ../schema.txt: how Kubernetes objects look in protobuf, read from the struct tags of upstream's own types.
//
//	go run . > ../schema.txt
//
// A line without indentation begins a message; `=` lines map an apiVersion and kind to one. An indented line is a field:
// its number, its JSON name (`~` when its fields stand in the message itself), its type, and marks: `*` the zero value is
// kept (a pointer in Go), `[]` repeated, `{}` a map from strings.
package main

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscaling "k8s.io/api/autoscaling/v1"
	certificates "k8s.io/api/certificates/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	policybeta "k8s.io/api/policy/v1beta1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Types that are not written field by field in JSON.
var special = map[string]string{
	"resource.Quantity": "quantity", "v1.Time": "time", "v1.MicroTime": "microtime", "intstr.IntOrString": "int-or-string",
	"runtime.RawExtension": "json", "v1.FieldsV1": "json",
}

var messages = map[string][]string{}

func main() {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, authentication.AddToScheme, authorization.AddToScheme, autoscaling.AddToScheme,
		certificates.AddToScheme, coordination.AddToScheme, core.AddToScheme, discovery.AddToScheme, events.AddToScheme,
		networking.AddToScheme, policy.AddToScheme, rbac.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	// Evictions of pods may be of the older version; nothing else of it is served.
	scheme.AddKnownTypes(policybeta.SchemeGroupVersion, &policybeta.Eviction{})
	var roots []string
	for gvk, t := range scheme.AllKnownTypes() {
		internal := gvk.Version == runtime.APIVersionInternal
		if internal || strings.HasSuffix(gvk.Kind, "List") || (strings.HasSuffix(gvk.Kind, "Options") && gvk.Kind != "DeleteOptions") {
			continue
		}
		if gvk.Kind == "WatchEvent" || gvk.Kind == "Status" || strings.HasPrefix(gvk.Kind, "API") {
			continue
		}
		roots = append(roots, fmt.Sprintf("= %s %s %s", gvk.GroupVersion(), gvk.Kind, message(t)))
	}
	sort.Strings(roots)
	fmt.Println(strings.Join(roots, "\n"))
	names := make([]string, 0, len(messages))
	for name := range messages {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Printf("%s\n%s\n", name, strings.Join(messages[name], "\n"))
	}
}

// The message of a struct; collects it and all that it holds.
func message(t reflect.Type) string {
	path := strings.Split(t.PkgPath(), "/")
	name := path[len(path)-2] + "." + t.Name()
	if _, known := messages[name]; known {
		return name
	}
	messages[name] = nil
	var lines []string
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("protobuf")
		if tag == "" {
			continue
		}
		number := strings.Split(tag, ",")[1]
		json := strings.Split(field.Tag.Get("json"), ",")
		label := json[0]
		if label == "" {
			label = "~"
		}
		lines = append(lines, fmt.Sprintf(" %s %s %s", number, label, kind(field.Type)))
	}
	messages[name] = lines
	return name
}

func kind(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return kind(t.Elem()) + " *"
	case t.Kind() == reflect.Map:
		return kind(t.Elem()) + " {}"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "bytes"
	case t.Kind() == reflect.Slice && t.Name() == "":
		return kind(t.Elem()) + " []"
	case t.Kind() == reflect.Slice:
		// A named slice (ExtraValue) is a message with one repeated field in protobuf, and a list in JSON.
		return "items:" + kind(t.Elem())
	case special[t.String()] != "":
		return special[t.String()]
	case t.Kind() == reflect.Struct:
		return message(t)
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int32, reflect.Int64:
		return "int"
	}
	panic("no protobuf form known for " + t.String())
}
