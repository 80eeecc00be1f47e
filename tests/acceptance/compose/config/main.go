// Command compose-config prints a Compose project as JSON, as Docker Compose itself reads it.
//
//	compose-config DIRECTORY
//
// It reads compose.yaml, .env and the services' files of variables, and fails where `docker compose config` would.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(directory string) error {
	options, err := cli.NewProjectOptions(nil,
		cli.WithWorkingDirectory(directory),
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithDefaultConfigPath,
	)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}
