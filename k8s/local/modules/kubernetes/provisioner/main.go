// Command provisioner gives each PersistentVolumeClaim of its StorageClasses a
// folder on this node. The volumes are of type local, so the kubelet honours
// fsGroup on them; those of Kubernetes' own host-path provisioner belong to root
// with mode 0750, and no pod of the restricted Pod Security Standard can write there.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	name        = "chatbot.local/folder" // the provisioner of our StorageClasses
	provisioned = "pv.kubernetes.io/provisioned-by"
)

type provisioner struct {
	node, folder string
	client       kubernetes.Interface
	claims       corelisters.PersistentVolumeClaimLister
	volumes      corelisters.PersistentVolumeLister
	classes      storagelisters.StorageClassLister
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig")
	node := flag.String("node", "", "the node that holds the folder")
	folder := flag.String("folder", "", "where the volumes lie")
	flag.Parse()
	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(cfg)
	f := informers.NewSharedInformerFactory(client, 0)
	p := &provisioner{node: *node, folder: *folder, client: client,
		claims:  f.Core().V1().PersistentVolumeClaims().Lister(),
		volumes: f.Core().V1().PersistentVolumes().Lister(),
		classes: f.Storage().V1().StorageClasses().Lister()}
	dirty := make(chan struct{}, 1)
	mark := func() {
		select {
		case dirty <- struct{}{}:
		default:
		}
	}
	h := cache.ResourceEventHandlerFuncs{AddFunc: func(any) { mark() }, UpdateFunc: func(any, any) { mark() }, DeleteFunc: func(any) { mark() }}
	for _, i := range []cache.SharedIndexInformer{f.Core().V1().PersistentVolumeClaims().Informer(), f.Core().V1().PersistentVolumes().Informer(), f.Storage().V1().StorageClasses().Informer()} {
		if _, err := i.AddEventHandler(h); err != nil {
			log.Fatal(err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
	for {
		select {
		case <-ctx.Done():
			return
		case <-dirty:
		}
		if failed := p.sync(ctx); failed {
			time.AfterFunc(time.Second, mark)
		}
	}
}

// sync looks at everything and closes the gaps; it says whether to try again.
func (p *provisioner) sync(ctx context.Context) (failed bool) {
	note := func(what string, err error) {
		if err != nil && !errors.IsNotFound(err) && !errors.IsAlreadyExists(err) {
			log.Printf("%s: %v", what, err)
			failed = true
		}
	}
	claims, err := p.claims.List(labels.Everything())
	note("claims", err)
	for _, c := range claims {
		if class := p.class(c); class != nil && c.DeletionTimestamp == nil {
			if c.Spec.VolumeName == "" {
				note(c.Namespace+"/"+c.Name, p.provision(ctx, c, class))
			} else {
				note(c.Namespace+"/"+c.Name, p.grow(ctx, c))
			}
		}
	}
	volumes, err := p.volumes.List(labels.Everything())
	note("volumes", err)
	for _, v := range volumes {
		if v.Annotations[provisioned] == name && v.Status.Phase == corev1.VolumeReleased && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			note(v.Name, p.remove(ctx, v))
		}
	}
	return failed
}

func (p *provisioner) class(c *corev1.PersistentVolumeClaim) *storagev1.StorageClass {
	if c.Spec.StorageClassName == nil {
		return nil
	}
	class, err := p.classes.Get(*c.Spec.StorageClassName)
	if err != nil || class.Provisioner != name {
		return nil
	}
	return class
}

func (p *provisioner) provision(ctx context.Context, c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	volume := "pvc-" + string(c.UID)
	if _, err := p.volumes.Get(volume); err == nil {
		return nil // the controller-manager binds it in a moment
	}
	path := filepath.Join(p.folder, volume)
	// As on the volumes of a cloud, a pod that is not root and names no fsGroup cannot write.
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	policy := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: volume, Annotations: map[string]string{provisioned: name}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   c.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              class.Name,
			ClaimRef:                      &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: c.Namespace, Name: c.Name, UID: c.UID},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{p.node}}}}}}},
		}}, metav1.CreateOptions{})
	return err
}

// grow grants what a claim asks for beyond what it has: a folder has no size of its own.
func (p *provisioner) grow(ctx context.Context, c *corev1.PersistentVolumeClaim) error {
	asked, has := c.Spec.Resources.Requests[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
	if c.Status.Phase != corev1.ClaimBound || asked.Cmp(has) <= 0 {
		return nil
	}
	found, err := p.volumes.Get(c.Spec.VolumeName)
	if err != nil {
		return err
	}
	v := found.DeepCopy()
	v.Spec.Capacity[corev1.ResourceStorage] = asked
	if _, err := p.client.CoreV1().PersistentVolumes().Update(ctx, v, metav1.UpdateOptions{}); err != nil {
		return err
	}
	grown := c.DeepCopy()
	grown.Status.Capacity[corev1.ResourceStorage] = asked
	grown.Status.Conditions = nil // no resize is under way any more
	_, err = p.client.CoreV1().PersistentVolumeClaims(c.Namespace).UpdateStatus(ctx, grown, metav1.UpdateOptions{})
	return err
}

func (p *provisioner) remove(ctx context.Context, v *corev1.PersistentVolume) error {
	path := v.Spec.Local.Path
	if filepath.Dir(path) == filepath.Clean(p.folder) && strings.HasPrefix(filepath.Base(path), "pvc-") {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return p.client.CoreV1().PersistentVolumes().Delete(ctx, v.Name, metav1.DeleteOptions{})
}
