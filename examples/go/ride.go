// One ride, as its rider and its driver see it, through the gateway's one port.
//
//	examples/go/run.sh [URL]      # else $TAXI_URL, else http://127.0.0.1:8088
//
// Read it from top to bottom. What every client of taxi needs, whatever it is for, is in client.go: a
// deadline for each call, trying again, reading errors, and streams that survive a broken connection. How
// it gets its tokens is in identity.go. What the ride does not expect ends it with an error.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	allocationv1 "github.com/taxi-rs/taxi/clients/go/taxi/allocation/v1"
	dashboardv1 "github.com/taxi-rs/taxi/clients/go/taxi/dashboard/v1"
	drivingv1 "github.com/taxi-rs/taxi/clients/go/taxi/driving/v1"
	messagev1 "github.com/taxi-rs/taxi/clients/go/taxi/message/v1"
	typev1 "github.com/taxi-rs/taxi/clients/go/taxi/type/v1"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

func main() {
	log.SetFlags(0)
	base := cmp.Or(append(os.Args[1:], os.Getenv("TAXI_URL"), "http://127.0.0.1:8088")...)
	if err := ride(context.Background(), strings.TrimRight(base, "/")); err != nil {
		log.Fatal(err)
	}
}

func ride(ctx context.Context, base string) error {
	// Other people each time: a rider has one open ride at most, and data may be kept.
	people := fmt.Sprintf("%d-%d", os.Getpid(), rand.N(100_000))
	customer := "customers/rider-" + people
	rider, err := connect(base, "customer", "rider-"+people)
	if err != nil {
		return err
	}
	defer rider.Close()
	driver, err := connect(base, "driver", "driver-"+people)
	if err != nil {
		return err
	}
	defer driver.Close()
	allocations := allocationv1.NewAllocationServiceClient(rider)
	dashboard := dashboardv1.NewDashboardServiceClient(rider)
	messages := messagev1.NewMessageServiceClient(rider)
	drivings := drivingv1.NewDrivingServiceClient(driver)

	fmt.Println("# A request that is not valid. The reason is for programs, the description for people.")
	_, err = allocations.RequestAllocation(ctx, &allocationv1.RequestAllocationRequest{
		Allocation: &allocationv1.Allocation{Destination: &typev1.Place{Address: ""}},
		RequestId:  uuid.NewString(),
	})
	invalid := detail[*errdetails.BadRequest](err)
	if invalid == nil {
		return fmt.Errorf("a car to nowhere: %w", err)
	}
	fmt.Println(" ", codeName(err), detail[*errdetails.ErrorInfo](err).GetReason())
	for _, violation := range invalid.FieldViolations {
		fmt.Printf("  %s: %s\n", violation.Field, violation.Description)
	}

	fmt.Println("\n# The rider asks for a car, and once more with the same id: it is the same ride.")
	wish := &allocationv1.RequestAllocationRequest{
		Allocation: &allocationv1.Allocation{Destination: &typev1.Place{Address: "Misa Station"}},
		RequestId:  uuid.NewString(),
	}
	var asked *allocationv1.Allocation
	for range 2 {
		if asked, err = allocations.RequestAllocation(ctx, wish); err != nil {
			return err
		}
		fmt.Println(" ", asked.Name, asked.State)
	}

	fmt.Println("\n# The rider watches the ride. A driver watches all that are open, and accepts this one.")
	rides := follow(ctx, dashboard.WatchDrivingInfos, &dashboardv1.WatchDrivingInfosRequest{})
	seen, err := until(rides, nil, "AllocationRequested", "DrivingOpened")
	if err != nil {
		return err
	}
	offers := follow(ctx, drivings.WatchOpenDrivings, &drivingv1.WatchOpenDrivingsRequest{})
	offer := &drivingv1.Driving{}
	for offer.Allocation != asked.Name {
		news, err := offers.next()
		if err != nil {
			return err
		}
		offer = news.Driving
	}
	offers.cut()
	accepted, err := drivings.AcceptDriving(ctx, &drivingv1.AcceptDrivingRequest{
		Name: offer.Name, RequestId: uuid.NewString(),
	})
	if err != nil {
		return err
	}
	fmt.Println(" ", accepted.Name, accepted.State)
	if seen, err = until(rides, seen, "DrivingApproved"); err != nil {
		return err
	}

	fmt.Println("\n# The rider's connection breaks. The driver starts and finishes meanwhile.")
	rides.cut()
	started, err := drivings.StartDriving(ctx, &drivingv1.StartDrivingRequest{
		Name: offer.Name, RequestId: uuid.NewString(),
	})
	if err != nil {
		return err
	}
	fmt.Println(" ", started.Name, started.State)
	finished, err := drivings.FinishDriving(ctx, &drivingv1.FinishDrivingRequest{
		Name: offer.Name, RequestId: uuid.NewString(),
	})
	if err != nil {
		return err
	}
	fmt.Println(" ", finished.Name, finished.State)
	fmt.Println(" ", finished.Fare.Units, finished.Fare.CurrencyCode)

	fmt.Println("\n# The watch carries on where it was: nothing is lost, and nothing comes twice.")
	if _, err = until(rides, seen, "DrivingFinished", "PaymentApproved", "DrivingPaymentSettled"); err != nil {
		return err
	}
	rides.cut()

	fmt.Println("\n# What the rider was told, by pages of two.")
	inbox := follow(ctx, messages.WatchMessages, &messagev1.WatchMessagesRequest{Parent: customer})
	arrived := map[string]bool{}
	for len(arrived) < 5 {
		news, err := inbox.next()
		if err != nil {
			return err
		}
		arrived[news.Message.Name] = true
	}
	inbox.cut()
	var told []*messagev1.Message
	var sizes []string
	query := &messagev1.ListMessagesRequest{Parent: customer, PageSize: 2}
	for {
		page, err := messages.ListMessages(ctx, query)
		if err != nil {
			return err
		}
		told = append(told, page.Messages...)
		sizes = append(sizes, strconv.Itoa(len(page.Messages)))
		if page.NextPageToken == "" {
			break
		}
		// Everything else in the query stays as it was.
		query.PageToken = page.NextPageToken
	}
	fmt.Println(" ", strings.Join(sizes, " + "), "messages")
	// Newest first, but for two services that tell something at the same time.
	slices.SortFunc(told, func(one, other *messagev1.Message) int { return cmp.Compare(one.Template, other.Template) })
	for _, message := range told {
		fmt.Println(" ", message.Text)
	}
	return nil
}

// until reads changes of a ride until all these events have happened, shows what is new, and returns all
// that have happened.
func until(rides *watch[dashboardv1.WatchDrivingInfosResponse], seen []string, wanted ...string) ([]string, error) {
	known := len(seen)
	missing := func(event string) bool { return !slices.Contains(seen, event) }
	for slices.ContainsFunc(wanted, missing) {
		change, err := rides.next()
		if err != nil {
			return nil, err
		}
		var timeline []string
		for _, entry := range change.DrivingInfo.Timeline {
			timeline = append(timeline, entry.Event)
		}
		if len(timeline) <= len(seen) {
			return nil, fmt.Errorf("told before: %s", timeline)
		}
		seen = timeline
	}
	fmt.Println("  the rider sees", strings.Join(seen[known:], ", "))
	return seen, nil
}
