package clients

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	clientfeatures "k8s.io/client-go/features"
	featurestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// inBothStrategies runs a test with list-then-watch, and with one streaming watch.
func inBothStrategies(t *testing.T, test func(*testing.T)) {
	for name, streaming := range map[string]bool{"ListWatch": false, "WatchList": true} {
		t.Run(name, func(t *testing.T) {
			featurestesting.SetFeatureDuringTest(t, clientfeatures.WatchListClient, streaming)
			test(t)
		})
	}
}

// journal is what an informer told of objects, in order.
type journal struct {
	sync.Mutex
	lines []string
}

func (j *journal) note(what string, object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	meta := object.(metav1.Object)
	j.Lock()
	defer j.Unlock()
	j.lines = append(j.lines, fmt.Sprintf("%s %s%s", what, meta.GetName(), meta.GetLabels()["v"]))
}

func (j *journal) handler() cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { j.note("add", object) },
		UpdateFunc: func(_, object any) { j.note("update", object) },
		DeleteFunc: func(object any) { j.note("delete", object) },
	}
}

func (j *journal) reads(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, "the journal", func() error {
		j.Lock()
		defer j.Unlock()
		if !slices.Equal(j.lines, want) {
			return fmt.Errorf("it reads %q, not %q", j.lines, want)
		}
		return nil
	})
}

func TestInformerTellsEveryChangeOnce(t *testing.T) {
	inBothStrategies(t, func(t *testing.T) {
		client := clientset(t, config(t))
		ns := namespace(t, client)
		maps := client.CoreV1().ConfigMaps(ns)
		must(maps.Create(t.Context(), configMap("early", nil), metav1.CreateOptions{}))(t)
		factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(ns),
			informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = "v!=hidden" }))
		informer := factory.Core().V1().ConfigMaps().Informer()
		seen := &journal{}
		must(informer.AddEventHandler(seen.handler()))(t)
		factory.Start(t.Context().Done())
		factory.WaitForCacheSync(t.Context().Done())
		eventually(t, "the root certificate's map", func() error {
			_, err := maps.Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
			return err
		})
		label := func(name, value string) {
			t.Helper()
			patch := fmt.Sprintf(`{"metadata":{"labels":{"v":%q}}}`, value)
			must(maps.Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}))(t)
		}
		must(maps.Create(t.Context(), configMap("a", nil), metav1.CreateOptions{}))(t)
		for _, value := range []string{"1", "2", "hidden", "3"} {
			label("a", value)
		}
		if err := maps.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end", func() error {
			seen.Lock()
			defer seen.Unlock()
			seen.lines = slices.DeleteFunc(seen.lines, func(line string) bool { return line == "add kube-root-ca.crt" })
			if !slices.Contains(seen.lines, "delete a3") {
				return fmt.Errorf("%q", seen.lines)
			}
			return nil
		})
		seen.reads(t, "add early", "add a", "update a1", "update a2", "delete a2", "add a3", "delete a3")
	})
}

// everything is what the server says can be listed and watched.
func everything(t *testing.T) []schema.GroupVersionResource {
	t.Helper()
	client := must(discovery.NewDiscoveryClientForConfig(config(t)))(t)
	lists := must(client.ServerPreferredResources())(t)
	found := must(discovery.GroupVersionResources(discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "watch"}}, lists)))(t)
	var all []schema.GroupVersionResource
	for resource := range found {
		all = append(all, resource)
	}
	if len(all) < 20 {
		t.Fatalf("only %d kinds: %v", len(all), all)
	}
	return all
}

func TestInformersOfAllKindsSync(t *testing.T) {
	inBothStrategies(t, func(t *testing.T) {
		all := everything(t)
		objects := dynamicinformer.NewDynamicSharedInformerFactory(must(dynamic.NewForConfig(config(t)))(t), 0)
		names := metadatainformer.NewSharedInformerFactory(must(metadata.NewForConfig(metadata.ConfigFor(config(t))))(t), 0)
		for _, resource := range all {
			objects.ForResource(resource).Informer()
			names.ForResource(resource).Informer()
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		objects.Start(ctx.Done())
		names.Start(ctx.Done())
		for resource, synced := range objects.WaitForCacheSync(ctx.Done()) {
			if !synced {
				t.Errorf("%s never synced", resource)
			}
		}
		for resource, synced := range names.WaitForCacheSync(ctx.Done()) {
			if !synced {
				t.Errorf("metadata of %s never synced", resource)
			}
		}
		for _, lister := range []cache.GenericLister{
			objects.ForResource(corev1.SchemeGroupVersion.WithResource("namespaces")).Lister(),
			names.ForResource(corev1.SchemeGroupVersion.WithResource("namespaces")).Lister(),
		} {
			object := must(lister.Get("kube-system"))(t).(metav1.Object)
			if object.GetUID() == "" {
				t.Errorf("kube-system without a uid: %v", object)
			}
		}
	})
}

func TestTypedFactoryWithProtobufSyncs(t *testing.T) {
	inBothStrategies(t, func(t *testing.T) {
		client := clientset(t, withProtobuf(config(t)))
		factory := informers.NewSharedInformerFactory(client, 0)
		core, apps := factory.Core().V1(), factory.Apps().V1()
		for _, informer := range []cache.SharedIndexInformer{
			core.Pods().Informer(), core.Services().Informer(), core.Endpoints().Informer(), core.Nodes().Informer(),
			core.ConfigMaps().Informer(), core.Secrets().Informer(), core.ServiceAccounts().Informer(),
			core.Events().Informer(), core.ReplicationControllers().Informer(), apps.Deployments().Informer(),
			apps.ReplicaSets().Informer(), apps.DaemonSets().Informer(), apps.StatefulSets().Informer(),
			apps.ControllerRevisions().Informer(), factory.Discovery().V1().EndpointSlices().Informer(),
			factory.Coordination().V1().Leases().Informer(), factory.Policy().V1().PodDisruptionBudgets().Informer(),
			factory.Rbac().V1().ClusterRoles().Informer(),
		} {
			if informer.HasSynced() {
				t.Error("synced before it started")
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		factory.Start(ctx.Done())
		for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
			if !synced {
				t.Errorf("%s never synced", kind)
			}
		}
	})
}

// A watch that breaks is taken up where it was, without a gap.
func TestRetryWatcherGoesOn(t *testing.T) {
	client := clientset(t, config(t))
	ns := namespace(t, client)
	maps := client.CoreV1().ConfigMaps(ns)
	list := must(maps.List(t.Context(), metav1.ListOptions{}))(t)
	second := int64(1)
	source := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		options.TimeoutSeconds = &second
		options.FieldSelector = "metadata.name!=kube-root-ca.crt"
		return maps.Watch(ctx, options)
	}}
	watcher := must(watchtools.NewRetryWatcherWithContext(t.Context(), list.ResourceVersion, source))(t)
	defer watcher.Stop()
	for at := range 12 {
		must(maps.Create(t.Context(), configMap(fmt.Sprintf("m%d", at), nil), metav1.CreateOptions{}))(t)
		event := <-watcher.ResultChan()
		object, ok := event.Object.(*corev1.ConfigMap)
		if !ok || event.Type != watch.Added || object.Name != fmt.Sprintf("m%d", at) {
			t.Fatalf("event %d: %v %v", at, event.Type, event.Object)
		}
		// Three watches end meanwhile.
		if at%4 == 0 {
			waitOneWatch(t, maps.Watch)
		}
	}
}

// waitOneWatch waits for as long as a watch of a second takes to end by itself.
func waitOneWatch(t *testing.T, open func(context.Context, metav1.ListOptions) (watch.Interface, error)) {
	t.Helper()
	second := int64(1)
	watcher := must(open(t.Context(), metav1.ListOptions{TimeoutSeconds: &second}))(t)
	for range watcher.ResultChan() {
	}
}

func TestUnstructuredWatchOfOneObject(t *testing.T) {
	client := must(dynamic.NewForConfig(config(t)))(t)
	ns := namespace(t, clientset(t, config(t)))
	maps := client.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(ns)
	watcher := must(maps.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=one"}))(t)
	defer watcher.Stop()
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "one"},
	}}
	must(maps.Create(t.Context(), object, metav1.CreateOptions{}))(t)
	equal(t, "first", (<-watcher.ResultChan()).Type, watch.Added)
	if err := maps.Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	equal(t, "second", (<-watcher.ResultChan()).Type, watch.Deleted)
}
