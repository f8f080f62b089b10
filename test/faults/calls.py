# One call by what Python brings: `python3 calls.py ORDER`.
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

order = json.loads(sys.argv[1])
path = "/" + order["route"]
if "id" in order:
    path += "/" + urllib.parse.quote(order["id"], safe=order["safe"])
if "query" in order:
    path += "?" + urllib.parse.urlencode(order["query"])
body = json.dumps(order["body"]).encode() if "body" in order else None
headers = {"X-API-Key": order["key"], "Content-Type": "application/json", **order.get("headers", {})}
request = urllib.request.Request(order["url"] + path, data=body, headers=headers, method=order["method"])
try:
    with urllib.request.urlopen(request, timeout=30) as reply:
        told = {"status": reply.status, "body": json.load(reply)}
except urllib.error.HTTPError as refusal:
    told = {"status": refusal.code, "body": json.load(refusal)}
print(json.dumps(told))
