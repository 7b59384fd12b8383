// helm_template CHART RELEASE NAMESPACE [VALUES...]: what `helm template` prints, for charts that use what ours
// does. Debian has no helm; this runs its template engine (text/template with sprig), its YAML reader and its
// schema checker. Knows include, toYaml and required of helm's own functions, no dependencies and no lookup.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"github.com/xeipuuv/gojsonschema"
	"sigs.k8s.io/yaml"
)

type values = map[string]interface{}

func read(path string) (values, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	parsed := values{}
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return parsed, nil
}

// merge lays over onto base as helm does: maps by key, null removes, all else replaces.
func merge(base, over values) {
	for key, value := range over {
		if value == nil {
			delete(base, key)
			continue
		}
		child, isMap := value.(values)
		into, wasMap := base[key].(values)
		if isMap && wasMap {
			merge(into, child)
		} else {
			base[key] = value
		}
	}
}

func check(chart string, all values) error {
	schema, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		return err
	}
	result, err := gojsonschema.Validate(gojsonschema.NewBytesLoader(schema), gojsonschema.NewGoLoader(all))
	if err != nil {
		return err
	}
	if result.Valid() {
		return nil
	}
	var words []string
	for _, problem := range result.Errors() {
		words = append(words, problem.String())
	}
	return fmt.Errorf("values: %s", strings.Join(words, "; "))
}

func functions(all *template.Template) template.FuncMap {
	known := sprig.TxtFuncMap()
	// As helm: templates do not see the environment.
	delete(known, "env")
	delete(known, "expandenv")
	known["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := all.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	known["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	known["required"] = func(warning string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", warning)
		}
		return value, nil
	}
	return known
}

func render(chart, release, namespace string, overlays []string) (string, error) {
	all, err := read(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return "", err
	}
	for _, path := range overlays {
		over, err := read(path)
		if err != nil {
			return "", err
		}
		merge(all, over)
	}
	if err := check(chart, all); err != nil {
		return "", err
	}
	about, err := read(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		return "", err
	}
	// helm's Chart object spells its fields with capitals.
	facts := values{}
	for key, value := range about {
		facts[strings.ToUpper(key[:1])+key[1:]] = value
	}
	data := values{
		"Values":  all,
		"Chart":   facts,
		"Release": values{"Name": release, "Namespace": namespace, "Service": "Helm", "IsInstall": true},
	}

	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return "", err
	}
	sort.Strings(paths)
	templates := template.New("chart").Option("missingkey=zero")
	templates.Funcs(functions(templates))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if _, err := templates.New(filepath.Base(path)).Parse(string(text)); err != nil {
			return "", err
		}
	}
	var out strings.Builder
	for _, path := range paths {
		if filepath.Ext(path) != ".yaml" {
			continue
		}
		var one bytes.Buffer
		if err := templates.ExecuteTemplate(&one, filepath.Base(path), data); err != nil {
			return "", err
		}
		var parsed interface{}
		for _, document := range strings.Split(one.String(), "\n---\n") {
			if err := yaml.UnmarshalStrict([]byte(document), &parsed); err != nil {
				return "", fmt.Errorf("%s: %w\n%s", path, err, document)
			}
		}
		fmt.Fprintf(&out, "---\n%s\n", strings.Trim(one.String(), "\n"))
	}
	return out.String(), nil
}

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: helm_template CHART RELEASE NAMESPACE [VALUES...]")
		os.Exit(2)
	}
	text, err := render(os.Args[1], os.Args[2], os.Args[3], os.Args[4:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "helm_template:", err)
		os.Exit(1)
	}
	fmt.Print(text)
}
