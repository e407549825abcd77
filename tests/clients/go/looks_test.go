package clients

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/retry"
)

func TestDiscoveryBothWays(t *testing.T) {
	client := must(discovery.NewDiscoveryClientForConfig(config(t)))(t)
	names := func(client discovery.DiscoveryInterface) (all []string) {
		_, lists, err := client.ServerGroupsAndResources()
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range lists {
			for _, resource := range list.APIResources {
				all = append(all, fmt.Sprintf("%s %s %v %v %v", list.GroupVersion, resource.Name, resource.Kind, resource.Namespaced, resource.ShortNames))
			}
		}
		slices.Sort(all)
		return all
	}
	aggregated, walked := names(client), names(client.WithLegacy())
	if !slices.Equal(aggregated, walked) {
		t.Errorf("aggregated:\n%q\nwalked:\n%q", aggregated, walked)
	}
	mapper := restmapper.NewShortcutExpander(
		restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client)), memory.NewMemCacheClient(client), nil)
	for short, want := range map[string]string{
		"svc": "services", "deploy": "apps/deployments", "ep": "endpoints", "sts": "apps/statefulsets",
		"endpointslices.discovery.k8s.io": "discovery.k8s.io/endpointslices", "pdb": "policy/poddisruptionbudgets",
	} {
		found := must(mapper.ResourceFor(schema.ParseGroupResource(short).WithVersion("")))(t)
		got := found.Resource
		if found.Group != "" {
			got = found.Group + "/" + got
		}
		equal(t, short, got, want)
	}
	mapping := must(mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"}))(t)
	equal(t, "version", mapping.Resource.Version, "v1")
}

// Every served kind is in both OpenAPI documents, in the way that clients look for it.
func TestOpenAPI(t *testing.T) {
	client := must(discovery.NewDiscoveryClientForConfig(config(t)))(t)
	paths := must(client.OpenAPIV3().Paths())(t)
	for path, version := range paths {
		document, err := version.Schema(openapi.ContentTypeOpenAPIV3PB)
		if err != nil {
			document, err = version.Schema("application/json")
		}
		if err != nil || len(document) == 0 {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, found := paths["apis/apps/v1"]; !found {
		t.Errorf("%v", paths)
	}
	document := must(client.OpenAPISchema())(t)
	if len(document.GetDefinitions().GetAdditionalProperties()) < 100 || len(document.GetPaths().GetPath()) < 50 {
		t.Errorf("%d definitions, %d paths", len(document.GetDefinitions().GetAdditionalProperties()), len(document.GetPaths().GetPath()))
	}
	version := must(client.ServerVersion())(t)
	equal(t, "major version", version.Major, "1")
}

// A watch whose events are tables: columns in the first one only.
func TestTableWatch(t *testing.T) {
	client := clientset(t, config(t))
	ns, ctx := namespace(t, client), t.Context()
	tables := rest.CopyConfig(config(t))
	tables.APIPath, tables.GroupVersion = "/api", &corev1.SchemeGroupVersion
	tables.AcceptContentTypes = "application/json;as=Table;v=v1;g=meta.k8s.io"
	known := runtime.NewScheme()
	metav1.AddToGroupVersion(known, corev1.SchemeGroupVersion)
	if err := metav1.AddMetaToScheme(known); err != nil {
		t.Fatal(err)
	}
	tables.NegotiatedSerializer = serializer.NewCodecFactory(known).WithoutConversion()
	rest := must(rest.RESTClientFor(tables))(t)
	request := rest.Get().Namespace(ns).Resource("services").VersionedParams(&metav1.ListOptions{Watch: true}, metav1.ParameterCodec)
	watcher := must(request.Watch(ctx))(t)
	defer watcher.Stop()
	for at, name := range []string{"one", "two"} {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		must(client.CoreV1().Services(ns).Create(ctx, service, metav1.CreateOptions{}))(t)
		event := <-watcher.ResultChan()
		table, ok := event.Object.(*metav1.Table)
		if !ok {
			t.Fatalf("event %d is a %T", at, event.Object)
		}
		equal(t, "rows", len(table.Rows), 1)
		equal(t, "name", table.Rows[0].Cells[0], any(name))
		equal(t, "has columns", len(table.ColumnDefinitions) > 0, at == 0)
	}
}

func TestMetadataClient(t *testing.T) {
	client := clientset(t, config(t))
	ns, ctx := namespace(t, client), t.Context()
	must(client.AppsV1().Deployments(ns).Create(ctx, deployment("d"), metav1.CreateOptions{}))(t)
	names := must(metadata.NewForConfig(config(t)))(t).Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(ns)
	list := must(names.List(ctx, metav1.ListOptions{}))(t)
	equal(t, "name", list.Items[0].Name, "d")
	patched := must(names.Patch(ctx, "d", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}))(t)
	equal(t, "label", patched.Labels["a"], "b")
	if err := names.Delete(ctx, "d", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

func TestPolymorphicScale(t *testing.T) {
	client := clientset(t, config(t))
	ns, ctx := namespace(t, client), t.Context()
	must(client.AppsV1().Deployments(ns).Create(ctx, deployment("d"), metav1.CreateOptions{}))(t)
	discovered := memory.NewMemCacheClient(client.Discovery())
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(discovered)
	scales := must(scale.NewForConfig(config(t), mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(discovered)))(t).Scales(ns)
	resource := schema.GroupResource{Group: "apps", Resource: "deployments"}
	equal(t, "selector", must(scales.Get(ctx, resource, "d", metav1.GetOptions{}))(t).Status.Selector, "app=d")
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		found := must(scales.Get(ctx, resource, "d", metav1.GetOptions{}))(t)
		equal(t, "replicas", found.Spec.Replicas, 0)
		found.Spec.Replicas = 1
		_, err := scales.Update(ctx, resource, found, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Error(err)
	}
	patch := []byte(`{"spec":{"replicas":0}}`)
	equal(t, "replicas", must(scales.Patch(ctx, resource.WithVersion("v1"), "d", types.MergePatchType, patch, metav1.PatchOptions{}))(t).Spec.Replicas, 0)
}

// What is told often is counted, in one Event.
func TestEventsOfTheCoreGroup(t *testing.T) {
	client := clientset(t, config(t))
	ns, ctx := namespace(t, client), t.Context()
	about := must(client.CoreV1().ConfigMaps(ns).Create(ctx, configMap("m", nil), metav1.CreateOptions{}))(t)
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "tests"})
	for range 3 {
		recorder.Eventf(about, corev1.EventTypeNormal, "Tested", "it was tested")
	}
	eventually(t, "one Event, told three times", func() error {
		list, err := client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=m,reason=Tested"})
		if err == nil && (len(list.Items) != 1 || list.Items[0].Count != 3) {
			return fmt.Errorf("%v", list.Items)
		}
		return err
	})
	if found := must(client.CoreV1().Events(ns).SearchWithContext(ctx, scheme.Scheme, about))(t); len(found.Items) != 1 {
		t.Errorf("%d Events about it", len(found.Items))
	}
}

// The same in the newer group, over the same store.
func TestEventsOfTheEventsGroup(t *testing.T) {
	client := clientset(t, config(t))
	if _, err := client.Discovery().ServerResourcesForGroupVersion("events.k8s.io/v1"); err != nil {
		t.Skip("events.k8s.io/v1 is not served")
	}
	ns, ctx := namespace(t, client), t.Context()
	about := must(client.CoreV1().ConfigMaps(ns).Create(ctx, configMap("m", nil), metav1.CreateOptions{}))(t)
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	recorder := broadcaster.NewRecorder(scheme.Scheme, "svcd.io/tests")
	for range 2 {
		recorder.Eventf(about, nil, corev1.EventTypeNormal, "Tested", "Testing", "it was tested")
	}
	eventually(t, "an Event of a series, in both groups", func() error {
		list, err := client.EventsV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "regarding.name=m"})
		if err != nil {
			return err
		}
		core, err := client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=m"})
		if err == nil && (len(list.Items) != 1 || len(core.Items) != 1 || list.Items[0].Series == nil || list.Items[0].Note != "it was tested") {
			return fmt.Errorf("%v %v", list.Items, core.Items)
		}
		return err
	})
}
