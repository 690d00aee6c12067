"""Fill a fresh NetBox 4.7 with the estate of the tests, through its own REST API, and record what it answers.

    python tests/cmdb/netbox/record.py http://127.0.0.1:8000 nbt_<key>.<token>

Only for an empty NetBox of one's own, whose configuration has
``FIELD_CHOICES = {"dcim.Device.status+": (("maintenance", "Maintenance", "purple"),)}``. Ids follow the order of
creation, so they are the same each time.
"""

# ruff: noqa: E501 - a line an object
# fmt: off
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

BASE, TOKEN = sys.argv[1].rstrip("/") + "/api/", sys.argv[2]
HERE = Path(__file__).parent
LISTS = ("dcim/sites", "dcim/locations", "dcim/devices", "dcim/interfaces", "virtualization/clusters",
         "virtualization/virtual-machines", "ipam/services", "tenancy/tenants", "tenancy/contacts",
         "tenancy/contact-assignments", "extras/custom-fields")


def call(method, path, body=None):
    """Status, type and body of an answer."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(BASE + path, method=method, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


def new(path, **body):
    """Make an object; its id."""
    status, _, text = call("POST", path + "/", body)
    if status != 201:
        sys.exit(f"{path} {body}: {status} {text[:500]!r}")
    return json.loads(text)["id"]


def change(path, **body):
    """Change an object."""
    status, _, text = call("PATCH", path + "/", body)
    if status != 200:
        sys.exit(f"{path} {body}: {status} {text[:500]!r}")


ALL=["dcim.device","virtualization.virtualmachine","virtualization.cluster"]
cs=new("extras/custom-field-choice-sets", name="criticality", extra_choices=[["critical","Critical"],["high","High"],["medium","Medium"],["low","Low"]])
new("extras/custom-fields", name="environment", type="text", object_types=ALL, filter_logic="exact")
new("extras/custom-fields", name="criticality", type="select", object_types=ALL[:2], choice_set=cs)
new("extras/custom-fields", name="rack_note", type="text", object_types=["dcim.rack"])
tag=new("extras/tags", name="Production", slug="production")
tag2=new("extras/tags", name="PCI", slug="pci")
plat=new("tenancy/tenants", name="Platform", slug="platform")
shop=new("tenancy/tenants", name="Shop Team", slug="shop-team")
eu=new("dcim/regions", name="Europe", slug="europe")
dc1=new("dcim/sites", name="Data center 1", slug="dc1", status="active", region=eu, tenant=plat, facility="FRA1")
dc2=new("dcim/sites", name="Data center 2", slug="dc2", status="planned", region=eu)
room=new("dcim/locations", name="Room A", slug="room-a", site=dc1, status="active")
cage=new("dcim/locations", name="Cage 1", slug="cage-1", site=dc1, status="active", parent=room)
mf=new("dcim/manufacturers", name="Acme", slug="acme")
srv=new("dcim/device-types", manufacturer=mf, model="S100", slug="s100")
sw=new("dcim/device-types", manufacturer=mf, model="X48", slug="x48")
cht=new("dcim/device-types", manufacturer=mf, model="Chassis 8", slug="chassis-8", subdevice_role="parent", u_height=8)
blt=new("dcim/device-types", manufacturer=mf, model="Blade", slug="blade", subdevice_role="child", u_height=0)
rs=new("dcim/device-roles", name="Server", slug="server", color="0000ff")
rsw=new("dcim/device-roles", name="Switch", slug="switch", color="00ff00")
rack=new("dcim/racks", name="R1", site=dc1, location=room)
deb=new("dcim/platforms", name="Debian 13", slug="debian-13")
ct=new("virtualization/cluster-types", name="Kubernetes", slug="kubernetes")
cg=new("virtualization/cluster-groups", name="Prod", slug="prod")
prod=new("virtualization/clusters", name="prod k8s", type=ct, group=cg, status="active", tenant=plat, scope_type="dcim.site", scope_id=dc1, custom_fields={"environment":"production"}, tags=[{"slug":"production"}])
lab=new("virtualization/clusters", name="lab", type=ct, status="offline")
room_cl=new("virtualization/clusters", name="edge", type=ct, status="staging", scope_type="dcim.location", scope_id=room)
def dev(name, type_=srv, role=rs, site=dc1, **more): return new("dcim/devices", name=name, device_type=type_, role=role, site=site, **more)
h1=dev("host-1", location=room, rack=rack, position=1, face="front", cluster=prod, tenant=plat, platform=deb, serial="SN-1", asset_tag="A-1", description="First host", custom_fields={"environment":"production","criticality":"critical"}, tags=[{"slug":"production"}])
h2=dev("host-2", location=room, cluster=prod, tenant=plat, custom_fields={"environment":"production"}, tags=[{"slug":"production"},{"slug":"pci"}])
h3=dev("host-3", status="failed", tenant=shop, location=cage)
s1=dev("sw-1", sw, rsw, location=room, tenant=plat)
s2=dev("core switch 2", sw, rsw, location=room, tenant=plat, status="offline")
nameless=dev(None, sw, rsw, status="inventory", serial="SPARE-1")
other=dev("host-1", site=dc2, status="planned", tenant=shop)
dup1=dev("kvm", tenant=plat, status="staged")
dup2=dev("kvm", tenant=shop, status="decommissioning")
ch=dev("chassis-1", cht)
bay=new("dcim/device-bays", device=ch, name="Bay 1")
bl=dev("blade-1", blt, tenant=plat)
change(f"dcim/device-bays/{bay}", installed_device=bl)
own=dev("kvm-new", status="maintenance")
def vm(name, **more): return new("virtualization/virtual-machines", name=name, **more)
web=vm("web-1", cluster=prod, tenant=shop, role=rs, platform=deb, vcpus=4, memory=8192, disk=40000, custom_fields={"environment":"production","criticality":"high"}, tags=[{"slug":"production"}])
db=vm("db-1", cluster=prod, device=h1, tenant=shop)
pa=vm("paused-1", cluster=prod, status="paused")
ed=vm("edge-1", site=dc2, status="failed")
nic=new("virtualization/interfaces", virtual_machine=web, name="eth0")
ip=new("ipam/ip-addresses", address="192.0.2.10/24", assigned_object_type="virtualization.vminterface", assigned_object_id=nic)
change(f"virtualization/virtual-machines/{web}", primary_ip4=ip)
fhrp=new("ipam/fhrp-groups", protocol="vrrp3", group_id=1)
V,D="virtualization.virtualmachine","dcim.device"
def svc(name, t, i, ports, **more): return new("ipam/services", name=name, parent_object_type=t, parent_object_id=i, port_mappings=ports, **more)
svc("https",V,web,["tcp/443"],description="Shop front")
svc("postgresql",V,db,["tcp/5432"])
svc("ssh",D,h3,["tcp/22"])
svc("dns",D,h2,["tcp/53","udp/53"])
svc("vip","ipam.fhrpgroup",fhrp,["tcp/443"])
def port(device, name): return new("dcim/interfaces", device=device, name=name, type="10gbase-x-sfpp")
def cable(a,b): new("dcim/cables", a_terminations=[{"object_type":"dcim.interface","object_id":a}], b_terminations=[{"object_type":"dcim.interface","object_id":b}])
cable(port(h1,"eth0"),port(s1,"p1"))
cable(port(h2,"eth0"),port(s1,"p2"))
cable(port(h2,"eth1"),port(s2,"p2"))
cable(port(s1,"p9"),port(s2,"p9"))
port(h3,"eth0")
oc=new("tenancy/contact-roles", name="On call", slug="on-call")
ow=new("tenancy/contact-roles", name="Owner", slug="owner")
c1=new("tenancy/contacts", name="Platform on call", phone="+49 69 1234", email="oncall@platform.example")
c2=new("tenancy/contacts", name="Ada Lovelace", email="ada@example.com", title="Lead")
c3=new("tenancy/contacts", name="Platform desk", email="desk@platform.example")
def assign(t,i,c,r,p): new("tenancy/contact-assignments", object_type=t, object_id=i, contact=c, role=r, priority=p)
assign("tenancy.tenant",plat,c3,ow,"secondary")
assign("tenancy.tenant",plat,c1,oc,"primary")
assign(D,h1,c2,ow,"primary")

for path in LISTS:
    text = json.dumps(json.loads(call("GET", path + "/?limit=1000")[2]), indent=1, ensure_ascii=False)
    (HERE / f"{path.replace('/', '.')}.json").write_text(text.replace(sys.argv[1].rstrip("/"), "http://netbox.example") + "\n")
rows = []
for row in json.loads((HERE / "asked.json").read_text()):
    status, kind, text = call("GET", row["ask"])
    found = json.loads(text) if kind == "application/json" else None
    told = {"ask": row["ask"], "status": status, "kind": kind}
    if found and "results" in found:
        told |= {"count": found["count"], "ids": sorted(item["id"] for item in found["results"]), "next": bool(found["next"])}
    elif status != 200 and found is not None:
        told["body"] = found
    rows.append(json.dumps(told))
(HERE / "asked.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
