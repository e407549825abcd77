// Writes ../openapi.z and ../types.txt: what upstream says of its own types, taken from its Go modules.
//
//	go generate && go run .
//
// `go generate` has upstream's openapi-gen read the sources of k8s.io/api (comments, defaults, `+listType` and its like)
// into definitions/, which is not kept in the repository.
//
// openapi.z (zlib): a line for each type: its name, a tab, and its OpenAPI v3 schema as JSON.
//
// types.txt: how server-side apply merges each type, as upstream's own conversion of these schemas says. `=` lines name
// the type of an apiVersion and kind. A line without indentation begins a type: its name and, unless it is a struct that
// is merged field by field, its form. An indented line is a field: name, form, `*` when every object has it, if only as an
// empty one, and after a tab its default as JSON. Forms:
// `s` a scalar; `?` anything, merged as it comes; `[]F` an atomic list; `[=]F` a set; `[a,b]F` a list with the keys a and
// b; `{}F` a map; `!` in front: taken whole; anything else is the name of a type.
package main

//go:generate sh -c "mkdir -p definitions && go tool openapi-gen --go-header-file /dev/null --report-filename /dev/null --output-dir definitions --output-pkg svcd.io/api/schema/generate/definitions --output-file definitions.go k8s.io/api/apps/v1 k8s.io/api/authentication/v1 k8s.io/api/authorization/v1 k8s.io/api/autoscaling/v1 k8s.io/api/certificates/v1 k8s.io/api/coordination/v1 k8s.io/api/core/v1 k8s.io/api/discovery/v1 k8s.io/api/events/v1 k8s.io/api/networking/v1 k8s.io/api/policy/v1 k8s.io/api/rbac/v1 k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/util/intstr k8s.io/apimachinery/pkg/api/resource"

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
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
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/schemaconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/schema"

	"svcd.io/api/schema/generate/definitions"
)

type named interface{ OpenAPIModelName() string }

func main() {
	kinds := kinds()
	models := models(kinds)
	check(os.WriteFile("../openapi.z", compressed(models), 0o644))
	merging, err := schemaconv.ToSchemaFromOpenAPI(models, false)
	check(err)
	check(os.WriteFile("../types.txt", types(kinds, models, merging), 0o644))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

type gvk struct{ group, version, kind string }

// The types' names, with the kinds that they are known as.
func kinds() map[string][]gvk {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, authentication.AddToScheme, authorization.AddToScheme, autoscaling.AddToScheme,
		certificates.AddToScheme, coordination.AddToScheme, core.AddToScheme, discovery.AddToScheme, events.AddToScheme,
		networking.AddToScheme, policy.AddToScheme, rbac.AddToScheme,
	} {
		check(add(scheme))
	}
	found := map[string][]gvk{}
	for k, t := range scheme.AllKnownTypes() {
		model, ok := reflect.New(t).Interface().(named)
		if ok && k.Version != runtime.APIVersionInternal {
			name := model.OpenAPIModelName()
			found[name] = append(found[name], gvk{k.Group, k.Version, k.Kind})
		}
	}
	for _, known := range found {
		sort.Slice(known, func(i, j int) bool { return fmt.Sprint(known[i]) < fmt.Sprint(known[j]) })
	}
	return found
}

func models(kinds map[string][]gvk) map[string]*spec.Schema {
	config := &common.OpenAPIV3Config{
		Info:           &spec.Info{},
		GetDefinitions: definitions.GetOpenAPIDefinitions,
		GetDefinitionName: func(name string) (string, spec.Extensions) {
			known := kinds[name]
			if len(known) == 0 {
				return name, nil
			}
			var list []any
			for _, k := range known {
				list = append(list, map[string]any{"group": k.group, "kind": k.kind, "version": k.version})
			}
			return name, spec.Extensions{"x-kubernetes-group-version-kind": list}
		},
	}
	roots := []string{"io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}
	for name := range kinds {
		roots = append(roots, name)
	}
	models, err := builder3.BuildOpenAPIDefinitionsForResources(config, roots...)
	check(err)
	return models
}

func compressed(models map[string]*spec.Schema) []byte {
	var out bytes.Buffer
	writer, err := zlib.NewWriterLevel(&out, zlib.BestCompression)
	check(err)
	for _, name := range sorted(models) {
		text, err := json.Marshal(models[name])
		check(err)
		_, err = fmt.Fprintf(writer, "%s\t%s\n", name, text)
		check(err)
	}
	check(writer.Close())
	return out.Bytes()
}

func sorted[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func types(kinds map[string][]gvk, models map[string]*spec.Schema, merging *schema.Schema) []byte {
	var out bytes.Buffer
	for _, name := range sorted(kinds) {
		for _, k := range kinds[name] {
			version := strings.TrimPrefix(k.group+"/"+k.version, "/")
			if strings.HasSuffix(k.kind, "Options") || k.kind == "WatchEvent" || strings.HasSuffix(k.kind, "List") {
				continue
			}
			fmt.Fprintf(&out, "= %s %s %s\n", version, k.kind, short(name))
		}
	}
	sort.Slice(merging.Types, func(i, j int) bool { return merging.Types[i].Name < merging.Types[j].Name })
	for _, t := range merging.Types {
		if strings.HasPrefix(t.Name, "__") || strings.HasSuffix(t.Name, "List") {
			continue
		}
		if t.Map == nil || len(t.Map.Fields) == 0 {
			fmt.Fprintf(&out, "%s %s\n", short(t.Name), form(t.Atom))
			continue
		}
		mark := ""
		if t.Map.ElementRelationship == schema.Atomic {
			mark = " !"
		}
		fmt.Fprintf(&out, "%s%s\n", short(t.Name), mark)
		sort.Slice(t.Map.Fields, func(i, j int) bool { return t.Map.Fields[i].Name < t.Map.Fields[j].Name })
		for _, field := range t.Map.Fields {
			fmt.Fprintf(&out, " %s %s", field.Name, ref(field.Type))
			if present(models[t.Name], field.Name) {
				fmt.Fprint(&out, " *")
			}
			if text, err := json.Marshal(field.Default); err == nil && field.Default != nil && field.Type.NamedType == nil {
				fmt.Fprintf(&out, "\t%s", text)
			}
			fmt.Fprintln(&out)
		}
	}
	return out.Bytes()
}

// Is this field in every object, if only as an empty one? Go writes structs that are not pointers, and lists without
// `omitempty`.
func present(model *spec.Schema, field string) bool {
	if model == nil {
		return false
	}
	property := model.Properties[field]
	if reflect.DeepEqual(property.Default, map[string]any{}) {
		return true
	}
	list := len(property.Type) == 1 && property.Type[0] == "array"
	return list && slices.Contains(model.Required, field)
}

func short(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, "io.k8s.api."), "io.k8s.apimachinery.pkg.")
}

func ref(t schema.TypeRef) string {
	text := ""
	switch {
	case t.NamedType == nil:
		text = form(t.Inlined)
	case *t.NamedType == "__untyped_atomic_":
		return "!?"
	case *t.NamedType == "__untyped_deduced_":
		return "?"
	default:
		text = short(*t.NamedType)
	}
	if t.ElementRelationship != nil && *t.ElementRelationship == schema.Atomic {
		return "!" + text
	}
	return text
}

func form(a schema.Atom) string {
	switch {
	case a.Scalar != nil && a.Map != nil:
		if a.Map.ElementRelationship == schema.Atomic {
			return "!?"
		}
		return "?"
	case a.Scalar != nil:
		return "s"
	case a.List != nil && a.List.ElementRelationship == schema.Associative && len(a.List.Keys) > 0:
		return "[" + strings.Join(a.List.Keys, ",") + "]" + ref(a.List.ElementType)
	case a.List != nil && a.List.ElementRelationship == schema.Associative:
		return "[=]" + ref(a.List.ElementType)
	case a.List != nil:
		return "[]" + ref(a.List.ElementType)
	case a.Map != nil && len(a.Map.Fields) == 0 && a.Map.ElementRelationship == schema.Atomic:
		return "!{}" + ref(a.Map.ElementType)
	case a.Map != nil && len(a.Map.Fields) == 0:
		return "{}" + ref(a.Map.ElementType)
	}
	panic(fmt.Sprintf("no form known for %+v", a))
}
