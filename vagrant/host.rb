# What the Vagrantfile is told by the environment, and what must be true of the host before machines are made. Every refusal
# says what is wrong and what to do.

require "ipaddr"
require "socket"

module Host
  DOMAIN = "example.com"
  # The interfaces that providers make for such a network themselves.
  PROVIDERS = /\A(vboxnet|virbr|vnet|bridge1\d\d)/

  # The environment's settings, checked.
  class Settings
    attr_reader :workers, :memory, :cpus, :box, :network, :proxy_mode, :binary, :libvirt_driver

    def initialize(env)
      @workers = number(env, "SVCD_WORKERS", 3, 0..50)
      @memory = number(env, "SVCD_MEMORY", 1024, 256..65_536)
      @cpus = number(env, "SVCD_CPUS", 1, 1..64)
      @box = env.fetch("SVCD_BOX", "debian/bookworm64")
      @network = env.fetch("SVCD_NETWORK", "192.168.56")
      @proxy_mode = env.fetch("SVCD_PROXY_MODE", "iptables")
      @binary = File.expand_path(env.fetch("SVCD_BINARY", "../target/dist/svcd"), __dir__)
      @libvirt_driver = env.fetch("SVCD_LIBVIRT_DRIVER", "kvm")
      range
    end

    # The machines' network.
    def range
      raise IPAddr::Error unless network.match?(/\A\d+\.\d+\.\d+\z/)

      IPAddr.new("#{network}.0/24")
    rescue IPAddr::Error
      Host.refuse("SVCD_NETWORK is #{network}.", "Give the first three numbers of a /24, such as 192.168.57.")
    end

    # Names and addresses; the control plane comes first.
    def machines
      { "control-plane" => "#{network}.11" }.merge((1..workers).to_h { |n| ["node#{n}", "#{network}.#{20 + n}"] })
    end

    def groups
      { "control_plane" => ["control-plane"], "workers" => machines.keys - ["control-plane"] }
    end

    # The first interface of each machine has the same address: the second is the one that others reach.
    def host_vars
      machines.transform_values { |address| { "svcd_node_ip" => address } }
    end

    def extra_vars
      { "svcd_binary" => binary, "svcd_kubeconfig" => kubeconfig, "svcd_proxy_mode" => proxy_mode, "svcd_hosts" => true,
        "svcd_domain" => DOMAIN }
    end

    def kubeconfig
      File.expand_path("kubeconfig", __dir__)
    end

    private

    def number(env, name, default, range)
      text = env.fetch(name, default.to_s)
      value = Integer(text, 10, exception: false)
      return value if range.cover?(value)

      Host.refuse("#{name} is #{text}.", "Set it to a number from #{range.min} to #{range.max}.")
    end
  end

  # Refuses what cannot work, before anything is made.
  def self.check(settings)
    unless ENV.fetch("PATH", "").split(File::PATH_SEPARATOR).any? { |dir| File.executable?(File.join(dir, "ansible-playbook")) }
      refuse("ansible-playbook is not on this machine.", "Install it: apt-get install ansible-core (or brew install ansible).")
    end
    unless File.file?(settings.binary)
      refuse("#{settings.binary} is not there.", "Build it with make dist, or name another with SVCD_BINARY.")
    end
    return unless (other = user_of(settings.range))

    refuse("#{settings.network}.0/24 is used by #{other} of this machine.",
           "Take that down, or choose another network, say SVCD_NETWORK=192.168.57 vagrant #{ARGV.first}")
  end

  # The interface or route, if any, that has addresses of a range and is no provider's.
  def self.user_of(range)
    taken = interfaces + routes(File.exist?("/proc/net/route") ? File.read("/proc/net/route") : "")
    found = taken.find { |name, theirs| !name.match?(PROVIDERS) && overlap?(theirs, range) }
    found && "#{found.first} (#{found.last}/#{found.last.prefix})"
  end

  def self.interfaces
    Socket.getifaddrs.select { |i| i.addr&.ipv4? && i.netmask }.map do |i|
      [i.name, IPAddr.new(i.addr.ip_address).mask(i.netmask.ip_address)]
    end
  end

  # Linux's table of routes, without the default route, which is everybody's. Numbers are in the order of bytes in memory.
  def self.routes(table)
    table.lines.drop(1).map(&:split).reject { |fields| fields[7] == "00000000" }.map do |fields|
      address, mask = fields.values_at(1, 7).map { |hex| [hex].pack("H*").reverse.bytes.join(".") }
      [fields[0], IPAddr.new(address).mask(mask)]
    end
  end

  def self.overlap?(one, other)
    one.include?(other) || other.include?(one)
  end

  def self.refuse(what, fix)
    abort("#{what}\n#{fix}")
  end
end
