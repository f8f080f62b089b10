# Calls by what Python brings: orders on the lines of its input, replies on those of its output.
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

for line in sys.stdin:
    order = json.loads(line)
    path = "/" + order["route"]
    if "id" in order:
        path += "/" + urllib.parse.quote(order["id"], **order["quote"])
    if "query" in order:
        path += "?" + urllib.parse.urlencode(order["query"])
    body = json.dumps(order["body"]).encode() if "body" in order else None
    headers = {"X-API-Key": order["key"], "Content-Type": "application/json", **order.get("headers", {})}
    request = urllib.request.Request(order["url"] + path, data=body, headers=headers, method=order["method"])
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            told = {"status": reply.status, "body": json.load(reply)}
    except urllib.error.HTTPError as refusal:
        text = refusal.read()
        told = {"status": refusal.code, "body": json.loads(text) if text else None}
    print(json.dumps(told), flush=True)
