package clients

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Three candidates; whoever leads is stopped, without giving up the lease and with. There is always one more leader, and
// never two at once.
func TestLeaderElectionUnderContention(t *testing.T) {
	client := clientset(t, config(t))
	ns := namespace(t, client)
	for _, releases := range []bool{false, true} {
		t.Run(fmt.Sprintf("releases=%v", releases), func(t *testing.T) {
			race := &race{t: t, client: client, namespace: ns, name: fmt.Sprintf("lease-%v", releases), releases: releases}
			race.run()
		})
	}
}

type race struct {
	t         *testing.T
	client    kubernetes.Interface
	namespace string
	name      string
	releases  bool
	leading   atomic.Int32
	leader    chan string
}

func (r *race) run() {
	r.leader = make(chan string, 3)
	stops := map[string]context.CancelFunc{}
	var running sync.WaitGroup
	for _, id := range []string{"a", "b", "c"} {
		ctx, cancel := context.WithCancel(r.t.Context())
		stops[id] = cancel
		running.Go(func() { r.candidate(ctx, id) })
	}
	seen := map[string]bool{}
	for range 3 {
		select {
		case id := <-r.leader:
			if seen[id] {
				r.t.Errorf("%s leads again after it ended", id)
			}
			seen[id] = true
			stops[id]()
		case <-time.After(patience):
			r.t.Fatal("nobody leads")
		}
	}
	running.Wait()
	lease := must(r.client.CoordinationV1().Leases(r.namespace).Get(r.t.Context(), r.name, metav1.GetOptions{}))(r.t)
	// The first takes the lease, which is no transition.
	if got := *lease.Spec.LeaseTransitions; got < 2 {
		r.t.Errorf("%d transitions", got)
	}
}

func (r *race) candidate(ctx context.Context, id string) {
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: r.namespace, Name: r.name},
		Client:     r.client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: id},
	}
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: 2 * time.Second, RenewDeadline: 1500 * time.Millisecond, RetryPeriod: 100 * time.Millisecond,
		ReleaseOnCancel: r.releases,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				if r.leading.Add(1) != 1 {
					r.t.Error("two lead at once")
				}
				r.leader <- id
				<-ctx.Done()
				r.leading.Add(-1)
			},
			OnStoppedLeading: func() {},
		},
	})
}
