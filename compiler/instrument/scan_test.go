package instrument
import ("testing";"os";"bufio";"encoding/json";"strconv";"strings";"fmt";"github.com/open-policy-agent/opa/v1/ast")
func TestScan(t *testing.T){
 f,_:=os.Open("/work/shared/data/opa-cases.jsonl"); s:=bufio.NewScanner(f); s.Buffer(nil,16<<20)
 for s.Scan(){ var c struct{Note string;Modules []string}; json.Unmarshal(s.Bytes(),&c)
  mods:=map[string]*ast.Module{}
  for i,x:=range c.Modules{ m,err:=ast.ParseModuleWithOpts("m"+strconv.Itoa(i),x,ast.ParserOptions{ProcessAnnotation:true,RegoVersion:ast.RegoV1}); if err!=nil{mods=nil;break}; mods["m"+strconv.Itoa(i)]=m}
  if mods==nil{continue}
  r,err:=Instrument(mods,Options{Capabilities:ast.CapabilitiesForThisVersion()}); if err!=nil{continue}
  for _,e:=range r.Dictionary.Exprs{ i,_:=strconv.Atoi(e.File[1:]); lines:=strings.Split(c.Modules[i],"\n"); l:=[]rune(lines[e.Row-1]); first,_,_:=strings.Cut(e.Text,"\n")
   if e.Col-1>len(l)|| !strings.HasPrefix(string(l[e.Col-1:]),strings.TrimSpace(first)) || strings.Contains(e.Text," else ")||strings.HasPrefix(e.Text,"else")||strings.Contains(e.Text,":= ")&&strings.Contains(e.Text," if ") { fmt.Printf("E %q %s:%d:%d %q || %q\n",c.Note,e.File,e.Row,e.Col,e.Text,lines[e.Row-1]) } }
  for _,e:=range r.Dictionary.Rules{ i,_:=strconv.Atoi(e.File[1:]); lines:=strings.Split(c.Modules[i],"\n"); l:=[]rune(lines[e.Row-1]); first,_,_:=strings.Cut(e.Text,"\n")
   if e.Col-1>len(l)|| !strings.HasPrefix(string(l[e.Col-1:]),strings.TrimSpace(first)) || strings.Contains(e.Text," if")||strings.Contains(e.Text,"{\n") { fmt.Printf("R %q %s %s:%d:%d %q || %q\n",c.Note,e.Kind,e.File,e.Row,e.Col,e.Text,lines[e.Row-1]) } }
 }}
