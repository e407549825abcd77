package clients

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	clientfeatures "k8s.io/client-go/features"
	featurestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"
)

func withProtobuf(config *rest.Config) *rest.Config {
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return config
}

func deployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	none := int32(0)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &none,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod(name).Spec},
		},
	}
}

// What is written in protobuf is read back the same in JSON.
func TestProtobufWrites(t *testing.T) {
	client, plain := clientset(t, withProtobuf(config(t))), clientset(t, config(t))
	ns := namespace(t, client)
	ctx, create, read := t.Context(), metav1.CreateOptions{FieldManager: "protobuf"}, metav1.GetOptions{}
	same := func(what string, written, stored metav1.Object) {
		t.Helper()
		equal(t, what+": uid", written.GetUID(), stored.GetUID())
		equal(t, what+": manager", stored.GetManagedFields()[0].Manager, "protobuf")
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "web"},
		Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}},
	}}
	written := must(client.CoreV1().Services(ns).Create(ctx, service, create))(t)
	stored := must(plain.CoreV1().Services(ns).Get(ctx, "web", read))(t)
	same("Service", written, stored)
	equal(t, "target port", stored.Spec.Ports[0].TargetPort, intstr.FromString("http"))

	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"k": {0, 255, 1}}}
	same("Secret", must(client.CoreV1().Secrets(ns).Create(ctx, secret, create))(t), must(plain.CoreV1().Secrets(ns).Get(ctx, "s", read))(t))
	equal(t, "bytes", string(must(plain.CoreV1().Secrets(ns).Get(ctx, "s", read))(t).Data["k"]), string([]byte{0, 255, 1}))

	same("Deployment", must(client.AppsV1().Deployments(ns).Create(ctx, deployment("d"), create))(t),
		must(plain.AppsV1().Deployments(ns).Get(ctx, "d", read))(t))
	now := metav1.NowMicro()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "l"}, Spec: coordinationv1.LeaseSpec{RenewTime: &now}}
	must(client.CoordinationV1().Leases(ns).Create(ctx, lease, create))(t)
	equal(t, "renewed", must(plain.CoordinationV1().Leases(ns).Get(ctx, "l", read))(t).Spec.RenewTime.UnixMicro(), now.UnixMicro())

	ready := true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "e", Labels: map[string]string{discoveryv1.LabelServiceName: "none"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}
	same("EndpointSlice", must(client.DiscoveryV1().EndpointSlices(ns).Create(ctx, slice, create))(t),
		must(plain.DiscoveryV1().EndpointSlices(ns).Get(ctx, "e", read))(t))

	few := intstr.FromString("50%")
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: policyv1.PodDisruptionBudgetSpec{
		MinAvailable: &few, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}}
	same("PodDisruptionBudget", must(client.PolicyV1().PodDisruptionBudgets(ns).Create(ctx, budget, create))(t),
		must(plain.PolicyV1().PodDisruptionBudgets(ns).Get(ctx, "b", read))(t))
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}
	same("Role", must(client.RbacV1().Roles(ns).Create(ctx, role, create))(t), must(plain.RbacV1().Roles(ns).Get(ctx, "r", read))(t))

	// Updates, the status, and reviews, too.
	written.Spec.Ports[0].Port = 81
	equal(t, "port", must(client.CoreV1().Services(ns).Update(ctx, written, metav1.UpdateOptions{}))(t).Spec.Ports[0].Port, 81)
	must(client.CoreV1().Pods(ns).Create(ctx, pod("p"), create))(t)
	// The scheduler writes meanwhile that there are no nodes.
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		running := must(client.CoreV1().Pods(ns).Get(ctx, "p", read))(t)
		running.Status.Phase = corev1.PodRunning
		_, err := client.CoreV1().Pods(ns).UpdateStatus(ctx, running, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Error(err)
	}
	equal(t, "phase", must(plain.CoreV1().Pods(ns).Get(ctx, "p", read))(t).Status.Phase, corev1.PodRunning)
	attributes := &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: ns}
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes}}
	equal(t, "allowed", must(client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, create))(t).Status.Allowed, true)
	seconds := int64(0)
	if err := client.CoreV1().Pods(ns).Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &seconds}); err != nil {
		t.Error(err)
	}
	if err := client.CoreV1().Services(ns).Delete(ctx, "web", *metav1.NewPreconditionDeleteOptions("not-its-uid")); !apierrors.IsConflict(err) {
		t.Errorf("a deletion with another's uid: %v", err)
	}
}

func TestScaleAndEviction(t *testing.T) {
	for name, config := range map[string]*rest.Config{"JSON": config(t), "Protobuf": withProtobuf(config(t))} {
		t.Run(name, func(t *testing.T) {
			client := clientset(t, config)
			ns, ctx := namespace(t, client), t.Context()
			must(client.AppsV1().Deployments(ns).Create(ctx, deployment("d"), metav1.CreateOptions{}))(t)
			deployments := client.AppsV1().Deployments(ns)
			// The controller writes meanwhile.
			err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
				scale := must(deployments.GetScale(ctx, "d", metav1.GetOptions{}))(t)
				scale.Spec.Replicas = 2
				_, err := deployments.UpdateScale(ctx, "d", scale, metav1.UpdateOptions{})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "two pods", func() error {
				list, err := client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=d"})
				if err == nil && len(list.Items) != 2 {
					return errNotYet
				}
				return err
			})
			for _, name := range []string{"v1", "v1beta1"} {
				must(client.CoreV1().Pods(ns).Create(ctx, pod(name), metav1.CreateOptions{}))(t)
			}
			meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: ns} }
			if err := client.CoreV1().Pods(ns).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: meta("v1")}); err != nil {
				t.Error(err)
			}
			if err := client.CoreV1().Pods(ns).EvictV1beta1(ctx, &policyv1beta1.Eviction{ObjectMeta: meta("v1beta1")}); err != nil {
				t.Error(err)
			}
			if err := client.CoreV1().Pods(ns).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: meta("none")}); !apierrors.IsNotFound(err) {
				t.Errorf("a pod that is not there: %v", err)
			}
		})
	}
}

func TestServerSideApply(t *testing.T) {
	client := clientset(t, config(t))
	ns, ctx := namespace(t, client), t.Context()
	maps := client.CoreV1().ConfigMaps(ns)
	mine, theirs := metav1.ApplyOptions{FieldManager: "mine"}, metav1.ApplyOptions{FieldManager: "theirs"}
	wanted := applycorev1.ConfigMap("m", ns).WithData(map[string]string{"a": "1", "b": "1"})
	must(maps.Apply(ctx, wanted, mine))(t)
	other := applycorev1.ConfigMap("m", ns).WithData(map[string]string{"a": "2", "c": "1"})
	_, err := maps.Apply(ctx, other, theirs)
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "mine": .data.a`) {
		t.Fatalf("%v", err)
	}
	theirs.Force = true
	stored := must(maps.Apply(ctx, other, theirs))(t)
	equal(t, "data", fmt.Sprint(stored.Data), "map[a:2 b:1 c:1]")
	extracted := must(applycorev1.ExtractConfigMap(stored, "mine"))(t)
	equal(t, "what is mine", fmt.Sprint(extracted.Data), "map[b:1]")
	// What its only manager leaves out goes.
	stored = must(maps.Apply(ctx, applycorev1.ConfigMap("m", ns), mine))(t)
	equal(t, "data", fmt.Sprint(stored.Data), "map[a:2 c:1]")
}

func TestPatchesAndConflicts(t *testing.T) {
	client := clientset(t, config(t))
	ns, ctx := namespace(t, client), t.Context()
	deployments := client.AppsV1().Deployments(ns)
	must(deployments.Create(ctx, deployment("d"), metav1.CreateOptions{}))(t)
	for kind, patch := range map[types.PatchType]string{
		types.StrategicMergePatchType: `{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"1"}]}]}}}}`,
		types.MergePatchType:          `{"metadata":{"labels":{"a":"b"}}}`,
		types.JSONPatchType:           `[{"op":"add","path":"/metadata/annotations","value":{"x":"y"}}]`,
	} {
		if _, err := deployments.Patch(ctx, "d", kind, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	maps := client.CoreV1().ConfigMaps(ns)
	stale := must(maps.Create(ctx, configMap("m", nil), metav1.CreateOptions{}))(t)
	fresh := stale.DeepCopy()
	fresh.Data = map[string]string{"a": "1"}
	must(maps.Update(ctx, fresh, metav1.UpdateOptions{}))(t)
	_, err := maps.Update(ctx, stale, metav1.UpdateOptions{})
	equal(t, "conflict", apierrors.IsConflict(err), true)
	_, err = deployments.Create(ctx, deployment("d"), metav1.CreateOptions{})
	equal(t, "exists", apierrors.IsAlreadyExists(err), true)
	_, err = deployments.Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "bad"}}, metav1.CreateOptions{})
	equal(t, "invalid", apierrors.IsInvalid(err), true)
	_, err = deployments.Get(ctx, "none", metav1.GetOptions{})
	equal(t, "missing", apierrors.IsNotFound(err), true)
}

func TestDynamicClient(t *testing.T) {
	for name, cbor := range map[string]bool{"JSON": false, "CBOR": true} {
		t.Run(name, func(t *testing.T) {
			// A client that would rather speak CBOR is told that we do not, and goes on in JSON.
			featurestesting.SetFeatureDuringTest(t, clientfeatures.ClientsAllowCBOR, cbor)
			featurestesting.SetFeatureDuringTest(t, clientfeatures.ClientsPreferCBOR, cbor)
			ns, ctx := namespace(t, clientset(t, config(t))), t.Context()
			client := must(dynamic.NewForConfig(config(t)))(t)
			maps := client.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(ns)
			object := func(name string) *unstructured.Unstructured {
				return &unstructured.Unstructured{Object: map[string]any{
					"apiVersion": "v1", "kind": "ConfigMap",
					"metadata": map[string]any{"name": name, "labels": map[string]any{"set": "a"}},
				}}
			}
			// The first such request is refused; by that the client learns it.
			if _, err := maps.Create(ctx, object("first"), metav1.CreateOptions{}); cbor != apierrors.IsUnsupportedMediaType(err) {
				t.Errorf("the first request: %v", err)
			}
			for at := range 25 {
				must(maps.Create(ctx, object(fmt.Sprintf("m%02d", at)), metav1.CreateOptions{}))(t)
			}
			var names []string
			pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				return maps.List(ctx, options)
			})
			pages.PageSize = 10
			err := pages.EachListItem(ctx, metav1.ListOptions{LabelSelector: "set=a"}, func(object runtime.Object) error {
				names = append(names, object.(metav1.Object).GetName())
				return nil
			})
			if !cbor {
				names = slices.DeleteFunc(names, func(name string) bool { return name == "first" })
			}
			if err != nil || len(names) != 25 || !slices.IsSorted(names) {
				t.Errorf("%v %v", err, names)
			}
			// With CBOR the client knows no other way to apply.
			if !cbor {
				must(maps.Apply(ctx, "m00", object("m00"), metav1.ApplyOptions{FieldManager: "x", Force: true}))(t)
			}
			must(maps.Patch(ctx, "m01", types.MergePatchType, []byte(`{"data":{"k":"v"}}`), metav1.PatchOptions{}))(t)
			err = maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "set=a"})
			if err != nil {
				t.Error(err)
			}
			left := must(maps.List(ctx, metav1.ListOptions{LabelSelector: "set=a"}))(t)
			equal(t, "left", len(left.Items), 0)
		})
	}
}

// A ServiceAccount's token, and what it may do; impersonation of the same.
func TestTokensAndImpersonation(t *testing.T) {
	for name, admin := range map[string]*rest.Config{"JSON": config(t), "Protobuf": withProtobuf(config(t))} {
		t.Run(name, func(t *testing.T) {
			client := clientset(t, admin)
			ns, ctx := namespace(t, client), t.Context()
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "reader"}}
			must(client.CoreV1().ServiceAccounts(ns).Create(ctx, account, metav1.CreateOptions{}))(t)
			binding := &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "view"},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
				Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: "reader", Namespace: ns}},
			}
			must(client.RbacV1().RoleBindings(ns).Create(ctx, binding, metav1.CreateOptions{}))(t)
			request := &authenticationv1.TokenRequest{}
			token := must(client.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "reader", request, metav1.CreateOptions{}))(t)
			holder := rest.AnonymousClientConfig(admin)
			holder.BearerToken = token.Status.Token
			impersonator := rest.CopyConfig(admin)
			impersonator.Impersonate.UserName = "system:serviceaccount:" + ns + ":reader"
			for how, config := range map[string]*rest.Config{"token": holder, "impersonation": impersonator} {
				reads(t, how, clientset(t, config), ns)
			}
		})
	}
}

func reads(t *testing.T, how string, client kubernetes.Interface, ns string) {
	t.Helper()
	who := must(client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}))(t)
	equal(t, how, who.Status.UserInfo.Username, "system:serviceaccount:"+ns+":reader")
	must(client.CoreV1().Services(ns).List(t.Context(), metav1.ListOptions{}))(t)
	_, err := client.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
	equal(t, how+": secrets are forbidden", apierrors.IsForbidden(err), true)
}
