// Verifies an exported log with the Go project's own packages for signed notes and transparency logs:
// main DIR KEY [OLD-CHECKPOINT]. It reads every leaf from the entry bundles, builds the tree, and checks the tiles,
// the root, a proof of every leaf, and that the log continues an older checkpoint.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func read(path string) []byte {
	body, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return body
}

// checkpoint reads a signed note whose text has the form of tlog-checkpoint.
func checkpoint(path string, verifier note.Verifier) tlog.Tree {
	opened, err := note.Open(read(path), note.VerifierList(verifier))
	if err != nil {
		log.Fatalf("%s: %v", path, err)
	}
	lines := bytes.SplitN([]byte(opened.Text), []byte("\n"), 4)
	if string(lines[0]) != verifier.Name() {
		log.Fatalf("%s is of another log: %s", path, lines[0])
	}
	var size int64
	if _, err := fmt.Sscanf(string(lines[1]), "%d", &size); err != nil {
		log.Fatal(err)
	}
	hash, err := tlog.ParseHash(string(lines[2]))
	if err != nil {
		log.Fatal(err)
	}
	return tlog.Tree{N: size, Hash: hash}
}

// entries returns the leaves of a bundle: each after its length in two bytes.
func entries(body []byte) (found [][]byte) {
	for len(body) > 0 {
		size := int(binary.BigEndian.Uint16(body))
		found = append(found, body[2:2+size])
		body = body[2+size:]
	}
	return found
}

// tiles reads tiles from files: in the layout of tlog-tiles the height is left out of the path.
type tiles struct{ dir string }

func (t tiles) Height() int { return 8 }

func (t tiles) path(tile tlog.Tile) string {
	return filepath.Join(t.dir, "tile", tile.Path()[len("tile/8/"):])
}

func (t tiles) ReadTiles(wanted []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range wanted {
		data = append(data, read(t.path(tile)))
	}
	return data, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func main() {
	dir, key := os.Args[1], os.Args[2]
	verifier, err := note.NewVerifier(key)
	if err != nil {
		log.Fatal(err)
	}
	tree := checkpoint(filepath.Join(dir, "checkpoint"), verifier)
	reader := tlog.TileHashReader(tree, tiles{dir})
	stored := []tlog.Hash{}
	built := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for at, index := range indexes {
			found[at] = stored[index]
		}
		return found, nil
	})
	var size int64
	for bundle := int64(0); size < tree.N; bundle++ {
		width := int(min(256, tree.N-bundle*256))
		tile := tlog.Tile{H: 8, L: -1, N: bundle, W: width}
		path := filepath.Join(dir, "tile", "entries", tile.Path()[len("tile/8/data/"):])
		leaves := entries(read(path))
		if len(leaves) != width {
			log.Fatalf("%s has %d leaves, not %d", path, len(leaves), width)
		}
		for _, leaf := range leaves {
			if !json.Valid(leaf) {
				log.Fatalf("leaf %d is no JSON", size)
			}
			hashes, err := tlog.StoredHashes(size, leaf, built)
			if err != nil {
				log.Fatal(err)
			}
			stored = append(stored, hashes...)
			proof, err := tlog.ProveRecord(tree.N, size, reader)
			if err != nil {
				log.Fatal(err)
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, size, tlog.RecordHash(leaf)); err != nil {
				log.Fatalf("leaf %d: %v", size, err)
			}
			size++
		}
	}
	root, err := tlog.TreeHash(tree.N, built)
	if err != nil || root != tree.Hash {
		log.Fatalf("the leaves have another root: %v", err)
	}
	if len(os.Args) > 3 {
		old := checkpoint(os.Args[3], verifier)
		proof, err := tlog.ProveTree(tree.N, old.N, reader)
		if err != nil {
			log.Fatal(err)
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
			log.Fatalf("the log does not continue %s: %v", os.Args[3], err)
		}
	}
	fmt.Println("verified", tree.N)
}
